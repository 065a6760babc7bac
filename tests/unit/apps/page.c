/* The page's files: what is found by which path, and what a folder can't make us serve. */
#include "capture.h"

#include "apps/page.h"
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

typedef struct folder {
    char path[64];
    page *page;
} folder;

static const char *at(const folder *f, const char *name)
{
    static char path[512];
    snprintf(path, sizeof(path), "%s/%s", f->path, name);
    return path;
}

static void put(const folder *f, const char *name, const char *content, size_t len)
{
    FILE *file = fopen(at(f, name), "w");
    assert_non_null(file);
    assert_int_equal(fwrite(content, 1, len, file), len);
    assert_int_equal(fclose(file), 0);
}

static int setup(void **state)
{
    folder *f = calloc(1, sizeof(*f));
    strcpy(f->path, "/tmp/datapeer-page-XXXXXX");
    if (f == NULL || mkdtemp(f->path) == NULL)
        return -1;
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    folder *f = *state;
    char command[128];
    page_free(f->page);
    snprintf(command, sizeof(command), "rm -r %s", f->path);
    int result = system(command);
    free(f);
    return result;
}

static bool open_page(folder *f, const char *mount)
{
    dp_value *config = dp_value_map();
    assert_int_equal(dp_value_set(config, "key", dp_value_string("a \"key\"")), DP_OK);
    capture();
    bool opened = page_open(&f->page, f->path, mount, config);
    end_capture();
    return opened;
}

static void expect(const folder *f, const char *path, const char *type, const char *body)
{
    dp_signal_file file = {0};
    if (!page_find(f->page, path, &file))
        fail_msg("%s is not found", path);
    assert_string_equal(file.type, type);
    assert_int_equal(file.len, strlen(body));
    assert_memory_equal(file.body, body, file.len);
    /* No text of the page itself becomes a script or a style, and no other place has a say. */
    assert_non_null(strstr(file.csp, "default-src 'none'; script-src 'self'; style-src 'self';"));
    assert_non_null(
        strstr(file.csp, "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"));
    assert_null(strstr(file.csp, "unsafe"));
}

static void finds_files_by_their_exact_names(void **state)
{
    folder *f = *state;
    dp_signal_file file;
    put(f, "app.js", "abc", 3);
    put(f, "index.html", "<p>", 3);
    put(f, "a b.txt", "", 0);
    put(f, "noend", "x", 1);
    put(f, "config.json", "{\"of\": \"the folder\"}", 20);
    assert_true(open_page(f, "/disk"));
    expect(f, "/disk/", "text/html; charset=utf-8", "<p>");
    expect(f, "/disk/index.html", "text/html; charset=utf-8", "<p>");
    expect(f, "/disk/app.js", "text/javascript; charset=utf-8", "abc");
    expect(f, "/disk/a b.txt", "text/plain; charset=utf-8", "");
    expect(f, "/disk/noend", "application/octet-stream", "x");
    expect(f, "/disk/config.json", "application/json; charset=utf-8", "{\"key\":\"a \\\"key\\\"\"}");
    assert_true(page_find(f->page, "/disk/app.js", &file)); /* the SHA-256 of "abc" */
    assert_string_equal(file.etag, "\"ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad\"");

    static const char *const others[] = {"",
                                         "/",
                                         "/disk",
                                         "/disk//",
                                         "/disk/APP.js",
                                         "/app.js",
                                         "//disk/app.js",
                                         "/disk/./app.js",
                                         "/disk/../disk/app.js",
                                         "/disk/app",
                                         "/disk/app.js/",
                                         "/DISK/app.js",
                                         "/disk/../page.c"};
    for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++)
        assert_false(page_find(f->page, others[i], &file));
}

static void knows_the_types_that_pages_use(void **state)
{
    folder *f = *state;
    static const char *const types[][2] = {{"a.css", "text/css; charset=utf-8"},
                                           {"a.mjs", "text/javascript; charset=utf-8"},
                                           {"a.json", "application/json; charset=utf-8"},
                                           {"a.svg", "image/svg+xml"},
                                           {"a.png", "image/png"},
                                           {"a.jpg", "image/jpeg"},
                                           {"a.ico", "image/x-icon"},
                                           {"a.webp", "image/webp"},
                                           {"a.woff2", "font/woff2"},
                                           {"a.webmanifest", "application/manifest+json"},
                                           {"a.html.exe", "application/octet-stream"}};
    put(f, "index.html", "", 0);
    for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++)
        put(f, types[i][0], "", 0);
    assert_true(open_page(f, "/"));
    for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
        char path[32];
        snprintf(path, sizeof(path), "/%s", types[i][0]);
        expect(f, path, types[i][1], "");
    }
    expect(f, "/", "text/html; charset=utf-8", "");
}

static void takes_nothing_but_plain_files_of_the_folder_itself(void **state)
{
    folder *f = *state;
    dp_signal_file file;
    put(f, "index.html", "", 0);
    put(f, ".htpasswd", "secret", 6);
    assert_int_equal(symlink("/etc/passwd", at(f, "passwd")), 0);
    assert_int_equal(mkdir(at(f, "sub"), 0700), 0);
    put(f, "sub/x", "", 0);
    assert_int_equal(mkfifo(at(f, "pipe"), 0600), 0); /* opening it would wait for a writer */
    assert_true(open_page(f, "/"));
    static const char *const none[] = {"/.htpasswd", "/passwd", "/sub", "/sub/x", "/pipe", "/."};
    for (size_t i = 0; i < sizeof(none) / sizeof(none[0]); i++)
        assert_false(page_find(f->page, none[i], &file));
}

static void expect_refusal(folder *f, const char *reason)
{
    assert_false(open_page(f, "/"));
    assert_null(f->page);
    if (strstr(captured_text, reason) == NULL)
        fail_msg("%s", captured_text);
}

static void refuses_what_is_no_page(void **state)
{
    folder *f = *state;
    char name[16];
    expect_refusal(f, "/index.html: No such file or directory");
    assert_int_equal(symlink("/etc/hostname", at(f, "index.html")), 0);
    expect_refusal(f, "index.html is no plain file");
    assert_int_equal(unlink(at(f, "index.html")), 0);
    assert_int_equal(mkdir(at(f, "index.html"), 0700), 0);
    expect_refusal(f, "index.html is no plain file");
    assert_int_equal(rmdir(at(f, "index.html")), 0);

    put(f, "index.html", "", 0);
    assert_int_equal(truncate(at(f, "index.html"), PAGE_FILE_MAX + 1), 0);
    expect_refusal(f, "/index.html: File too large");
    assert_int_equal(truncate(at(f, "index.html"), PAGE_FILE_MAX), 0);
    assert_true(open_page(f, "/"));
    page_free(f->page);
    f->page = NULL;

    assert_int_equal(truncate(at(f, "index.html"), 0), 0);
    for (int i = 1; i < PAGE_FILES_MAX; i++) {
        snprintf(name, sizeof(name), "%d", i);
        put(f, name, "", 0);
    }
    assert_true(open_page(f, "/"));
    page_free(f->page);
    f->page = NULL;
    put(f, "one more", "", 0);
    expect_refusal(f, "at most 64 files");

    dp_value *config = dp_value_map();
    capture();
    assert_false(page_open(&f->page, "/nowhere/at all", "/", config));
    captured_is("datapeer: --page /nowhere/at all: No such file or directory\n");
}

/* Whatever index.html names is there, and nothing in it needs more than the policy allows. */
static void has_a_whole_page_inside(void **state)
{
    folder *f = *state;
    dp_signal_file file;
    if (!page_is_embedded())
        skip();
    assert_true(page_open(&f->page, NULL, "/", dp_value_map()));
    assert_true(page_find(f->page, "/", &file));
    char *html = strndup(file.body, file.len);
    size_t named = 0;
    for (const char *c = html; (c = strpbrk(c, "hs")) != NULL; c++) {
        char path[64];
        if ((sscanf(c, "href=\"%62[^\"]", path + 1) != 1 && sscanf(c, "src=\"%62[^\"]", path + 1) != 1))
            continue;
        path[0] = '/';
        named++;
        if (!page_find(f->page, path, &file))
            fail_msg("%s is not found", path);
    }
    assert_true(named >= 4); /* icon (twice), style, script */
    static const char *const inline_code[] = {
        "<style", " style=", " onclick=", " onload=", "<script>", "javascript:"};
    for (size_t i = 0; i < sizeof(inline_code) / sizeof(inline_code[0]); i++)
        assert_null(strstr(html, inline_code[i]));
    free(html);
    expect(f, "/config.json", "application/json; charset=utf-8", "{}");
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(finds_files_by_their_exact_names),
        TEST(knows_the_types_that_pages_use),
        TEST(takes_nothing_but_plain_files_of_the_folder_itself),
        TEST(refuses_what_is_no_page),
        TEST(has_a_whole_page_inside),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
