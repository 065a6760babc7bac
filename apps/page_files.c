/* The page that goes into the program: what apps/web/build.mjs made, if there was a Node.js to run it (see the Makefile). */
#include "page.h"

#include <stddef.h>

#ifdef DP_EMBED_PAGE
#define EMBED(symbol, path)                                                                                  \
    extern const char symbol[], symbol##_end[];                                                              \
    __asm__(".pushsection .rodata\n" #symbol ":\n.incbin \"" path "\"\n" #symbol "_end:\n.popsection\n")

EMBED(page_index_html, "build/web/index.html");
EMBED(page_style_css, "build/web/style.css");
EMBED(page_icon_svg, "build/web/icon.svg");
EMBED(page_app_js, "build/web/app.js");
#endif

const page_file page_files[] = {
#ifdef DP_EMBED_PAGE
    {"index.html", page_index_html, page_index_html_end},
    {"style.css", page_style_css, page_style_css_end},
    {"icon.svg", page_icon_svg, page_icon_svg_end},
    {"app.js", page_app_js, page_app_js_end},
#endif
    {NULL, NULL, NULL},
};
