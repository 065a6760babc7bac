// Elements from code. Children that are strings become text, never markup: names of files come from elsewhere.

export function h(tag, attributes = {}, ...children) {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
        if (name.startsWith('on')) element.addEventListener(name.slice(2), value);
        else if (value !== false && value !== null) element.setAttribute(name, value === true ? '' : value);
    }
    element.append(...children);
    return element;
}

// One of the pictures in style.css. They are masks, which thousands of rows can bear; thousands of <svg> they can't.
export function icon(name) {
    return h('span', { class: `icon icon-${name}`, 'aria-hidden': 'true' });
}
