/* The page's files, as the PeerServer asks for them: read once at the start, found by their exact names. No path is ever
 * put together from a request. */
#ifndef APPS_PAGE_H
#define APPS_PAGE_H

#include <datapeer/datapeer.h>

enum {
    PAGE_FILES_MAX = 64,
    PAGE_FILE_MAX = 4 << 20, /* bytes of one of them */
};

typedef struct page page;

/* folder: the plain files of this folder, index.html among them; NULL: the files that are in this program. mount: the
 * path under which they are found, "/" or "/disk"; config: what the page gets as config.json, taken. False: printed. */
bool page_open(page **out, const char *folder, const char *mount, dp_value *config);
/* Whether the program was built with a page. */
bool page_is_embedded(void);
void page_free(page *p);

/* find_file of dp_signal_server_config, with the page as ctx. */
bool page_find(void *ctx, const char *path, dp_signal_file *file);

/* One that was put in when the program was built; the last has no name. */
typedef struct page_file {
    const char *name;
    const char *body, *end;
} page_file;
extern const page_file page_files[];

#endif
