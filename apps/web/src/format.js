// Numbers and dates as a person reads them.

const UNITS = ['bytes', 'kB', 'MB', 'GB', 'TB', 'PB'];
const dateFormat = new Intl.DateTimeFormat(undefined, { dateStyle: 'medium', timeStyle: 'short' });

export function formatSize(bytes) {
    if (bytes === 1) return '1 byte';
    let unit = 0;
    let value = bytes;
    // 999.5 would be shown as 1000 of the smaller unit.
    while (value >= 999.5 && unit < UNITS.length - 1) {
        value /= 1000;
        unit += 1;
    }
    const digits = unit === 0 || value >= 99.95 ? 0 : 1;
    return `${value.toFixed(digits).replace('.0', '')} ${UNITS[unit]}`;
}

export function formatDate(milliseconds) {
    const date = new Date(milliseconds ?? NaN);
    return Number.isNaN(date.getTime()) ? '' : dateFormat.format(date);
}

export function formatDuration(seconds) {
    if (!Number.isFinite(seconds)) return '';
    if (seconds < 60) return `${Math.max(1, Math.round(seconds))} s left`;
    if (seconds < 3600) return `${Math.round(seconds / 60)} min left`;
    return `${(seconds / 3600).toFixed(1)} h left`;
}
