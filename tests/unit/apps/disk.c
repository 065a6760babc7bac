/* The net disk's actions on a real folder: what is listed and read, and what no path reaches
 * (docs/bad-inputs.md rows 83-87). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "apps/disk.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

typedef struct world {
    char folder[64];
    char root[80];
    disk *disk;
    dp_router *router;
    dp_rpc *server;
    dp_rpc *client;
    dp_csprng *csprng;
    int error;
    int code;
    dp_value *data; /* of the last answer */
    uint8_t *bytes; /* of the last stream */
    size_t length;
    uint64_t total;
} world;

static void make_file(const char *root, const char *name, const void *data, size_t len)
{
    char path[256];
    snprintf(path, sizeof(path), "%s/%s", root, name);
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(data, 1, len, f), len);
    fclose(f);
}

static char *in_root(const world *w, const char *name)
{
    static char path[256];
    snprintf(path, sizeof(path), "%s/%s", w->root, name);
    return path;
}

static int set_up(void **state)
{
    world *w = calloc(1, sizeof(*w));
    assert_non_null(w);
    strcpy(w->folder, "/tmp/datapeer-disk-XXXXXX");
    assert_non_null(mkdtemp(w->folder));
    snprintf(w->root, sizeof(w->root), "%s/root", w->folder);
    assert_int_equal(mkdir(w->root, 0755), 0);
    make_file(w->folder, "secret", "secret", 6);
    make_file(w->root, "hello.txt", "hello world", 11);
    assert_int_equal(mkdir(in_root(w, "sub"), 0755), 0);
    make_file(w->root, "sub/inner", "inner", 5);
    make_file(w->root, "empty", "", 0);
    assert_int_equal(symlink("../secret", in_root(w, "escape")), 0);
    assert_int_equal(symlink("/etc/passwd", in_root(w, "absolute")), 0);
    assert_int_equal(symlink("sub/inner", in_root(w, "inside")), 0);
    assert_int_equal(mkfifo(in_root(w, "fifo"), 0644), 0);
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    snprintf(address.sun_path, sizeof(address.sun_path), "%s/socket", w->root);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    close(fd);

    assert_int_equal(disk_open(&w->disk, w->root), DP_OK);
    assert_int_equal(dp_router_new(&w->router), DP_OK);
    assert_int_equal(disk_register(w->disk, w->router), DP_OK);
    assert_int_equal(dp_csprng_new(&w->csprng), DP_OK);
    dp_rpc_config config = {
        .size = sizeof(config), .random = dp_csprng_source(w->csprng), .router = w->router};
    assert_int_equal(dp_rpc_new(&w->server, &config), DP_OK);
    config.router = NULL;
    assert_int_equal(dp_rpc_new(&w->client, &config), DP_OK);
    *state = w;
    return 0;
}

static int tear_down(void **state)
{
    world *w = *state;
    char command[128];
    dp_rpc_free(w->client);
    dp_rpc_free(w->server);
    dp_router_free(w->router);
    disk_close(w->disk);
    dp_csprng_free(w->csprng);
    dp_value_free(w->data);
    free(w->bytes);
    snprintf(command, sizeof(command), "rm -rf %s", w->folder);
    assert_int_equal(system(command), 0);
    free(w);
    return 0;
}

static int on_data(void *user, const uint8_t *data, size_t len, uint64_t total)
{
    world *w = user;
    w->bytes = realloc(w->bytes, w->length + len + 1);
    assert_non_null(w->bytes);
    memcpy(w->bytes + w->length, data, len);
    w->length += len;
    w->total = total;
    return DP_OK;
}

static void on_done(void *user, int error, const dp_value *context)
{
    world *w = user;
    w->error = error;
    w->code = dp_context_code(context, 0);
    dp_value_free(w->data);
    w->data = dp_value_copy(dp_context_data(context));
}

/* Moves one packed value; false if from has none. */
static bool move(dp_rpc *from, dp_rpc *to)
{
    uint8_t *packed;
    size_t len;
    dp_value *value;
    if (!dp_rpc_poll_transmit(from, 0, &packed, &len))
        return false;
    assert_int_equal(dp_binarypack_decode(&value, packed, len), DP_OK);
    dp_free(packed);
    assert_int_equal(dp_rpc_input(to, 0, value), DP_OK);
    return true;
}

/* Takes body. Returns the answer's code. */
static int ask(world *w, const char *action, dp_value *body, bool stream)
{
    free(w->bytes);
    w->bytes = NULL;
    w->length = 0;
    w->error = DP_ERR_WOULD_BLOCK;
    dp_request request = {.size = sizeof(request),
                          .action = action,
                          .body = body,
                          .on_data = stream ? on_data : NULL,
                          .on_done = on_done,
                          .user = w};
    assert_int_equal(dp_rpc_request(w->client, 0, &request, NULL), DP_OK);
    while (move(w->client, w->server) || move(w->server, w->client)) {
    }
    assert_int_not_equal(w->error, DP_ERR_WOULD_BLOCK);
    return w->code;
}

static dp_value *path_body(const char *path)
{
    dp_value *body = dp_value_map();
    assert_int_equal(dp_value_set(body, "path", dp_value_string(path)), DP_OK);
    return body;
}

static dp_value *range_body(const char *path, dp_value *offset, dp_value *length)
{
    dp_value *body = path_body(path);
    if (offset != NULL)
        assert_int_equal(dp_value_set(body, "offset", offset), DP_OK);
    if (length != NULL)
        assert_int_equal(dp_value_set(body, "length", length), DP_OK);
    return body;
}

static const dp_value *entry(const world *w, const char *name)
{
    const dp_value *entries = dp_value_get(w->data, "entries");
    for (size_t i = 0; i < dp_value_count(entries); i++)
        if (strcmp(dp_value_get_string(dp_value_get(dp_value_at(entries, i), "name"), NULL), name) == 0)
            return dp_value_at(entries, i);
    return NULL;
}

static const char *type_of(const world *w, const char *name)
{
    return dp_value_get_string(dp_value_get(entry(w, name), "type"), NULL);
}

static void lists_a_folder(void **state)
{
    world *w = *state;
    assert_int_equal(ask(w, "fs.list", path_body(""), false), 200);
    assert_int_equal(dp_value_count(dp_value_get(w->data, "entries")), 8);
    assert_string_equal(type_of(w, "hello.txt"), "file");
    assert_int_equal(dp_value_get_int(dp_value_get(entry(w, "hello.txt"), "size"), -1), 11);
    assert_true(dp_value_get_int(dp_value_get(entry(w, "hello.txt"), "mtime"), -1) > 1600000000000);
    assert_string_equal(type_of(w, "sub"), "directory");
    assert_string_equal(type_of(w, "fifo"), "other");
    assert_string_equal(type_of(w, "escape"), "other"); /* not what it leads to */
    assert_string_equal(type_of(w, "inside"), "file");
    assert_null(dp_value_get(w->data, "truncated"));
    assert_null(dp_value_get(w->data, "unnamed"));
    assert_int_equal(ask(w, "fs.list", path_body("/sub//"), false), 200);
    assert_non_null(entry(w, "inner"));
    assert_int_equal(ask(w, "fs.list", path_body("hello.txt"), false), 404);
    assert_int_equal(ask(w, "fs.list", NULL, false), 200); /* no path: the root */
}

/* A name that is no UTF-8 can't travel; it is counted, not passed over in silence. */
static void counts_names_that_are_no_text(void **state)
{
    world *w = *state;
    make_file(w->root, "sub/\xff\xfe", "", 0);
    assert_int_equal(ask(w, "fs.list", path_body("sub"), false), 200);
    assert_int_equal(dp_value_count(dp_value_get(w->data, "entries")), 1);
    assert_int_equal(dp_value_get_int(dp_value_get(w->data, "unnamed"), 0), 1);
}

static void lists_no_more_than_its_limit(void **state)
{
    world *w = *state;
    assert_int_equal(mkdir(in_root(w, "many"), 0755), 0);
    for (int i = 0; i < 10001; i++) {
        char name[32];
        snprintf(name, sizeof(name), "many/%d", i);
        int fd = open(in_root(w, name), O_CREAT | O_WRONLY, 0644);
        assert_true(fd >= 0);
        close(fd);
    }
    assert_int_equal(ask(w, "fs.list", path_body("many"), false), 200);
    assert_int_equal(dp_value_count(dp_value_get(w->data, "entries")), 10000);
    assert_true(dp_value_get_bool(dp_value_get(w->data, "truncated"), false));
}

static void stats_and_reads(void **state)
{
    world *w = *state;
    assert_int_equal(ask(w, "fs.stat", path_body("sub/inner"), false), 200);
    assert_string_equal(dp_value_get_string(dp_value_get(w->data, "name"), NULL), "inner");
    assert_int_equal(dp_value_get_int(dp_value_get(w->data, "size"), -1), 5);
    assert_int_equal(ask(w, "fs.read", path_body("hello.txt"), true), 200);
    assert_int_equal(w->length, 11);
    assert_memory_equal(w->bytes, "hello world", 11);
    assert_int_equal(w->total, 11);
    assert_int_equal(ask(w, "fs.read", range_body("/hello.txt", dp_value_int(6), dp_value_int(3)), true),
                     200);
    assert_int_equal(w->length, 3);
    assert_memory_equal(w->bytes, "wor", 3);
    assert_int_equal(ask(w, "fs.read", range_body("hello.txt", dp_value_int(11), NULL), true), 200);
    assert_int_equal(w->length, 0);
    assert_int_equal(ask(w, "fs.read", path_body("empty"), true), 200);
    assert_int_equal(w->length, 0);
    assert_int_equal(ask(w, "fs.read", path_body("inside"), true), 200);
    assert_memory_equal(w->bytes, "inner", 5);
}

/* Row 83. */
static void no_path_leads_outside(void **state)
{
    world *w = *state;
    static const struct {
        const char *path;
        int code;
    } cases[] = {{"../secret", 403},   {"..", 403},        {"sub/../../secret", 403}, {"sub/..", 403},
                 {"/etc/passwd", 404}, {"escape", 403},    {"absolute", 403},         {"missing", 404},
                 {"hello.txt/x", 404}, {"/../secret", 403}};
    static const char *const actions[] = {"fs.list", "fs.stat", "fs.read"};
    for (size_t a = 0; a < 3; a++)
        for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
            int code = ask(w, actions[a], path_body(cases[i].path), a == 2);
            if (code != cases[i].code)
                printf("%s %s: %d\n", actions[a], cases[i].path, code);
            assert_int_equal(code, cases[i].code);
            assert_int_equal(w->length, 0);
        }
}

static void odd_paths_are_refused(void **state)
{
    world *w = *state;
    dp_value *body = dp_value_map();
    assert_int_equal(dp_value_set(body, "path", dp_value_string_n("hello.txt\0x", 11)), DP_OK);
    assert_int_equal(ask(w, "fs.read", body, true), 400);
    body = dp_value_map();
    assert_int_equal(dp_value_set(body, "path", dp_value_int(5)), DP_OK);
    assert_int_equal(ask(w, "fs.read", body, true), 400);
    char *path = malloc(100001);
    assert_non_null(path);
    memset(path, 'a', 100000);
    path[100000] = '\0';
    assert_int_equal(ask(w, "fs.read", path_body(path), true), 400);
    path[300] = '\0'; /* a name of 300 bytes: longer than a file system has */
    assert_int_equal(ask(w, "fs.stat", path_body(path), true), 400);
    free(path);
}

/* Row 85: opening must not block, and nothing but files is read. */
static void only_files_are_read(void **state)
{
    world *w = *state;
    static const char *const names[] = {"fifo", "socket", "sub", "."};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        assert_int_equal(ask(w, "fs.read", path_body(names[i]), true), 403);
    if (geteuid() == 0 && mknod(in_root(w, "null"), S_IFCHR | 0666, (dev_t)0x103) == 0)
        assert_int_equal(ask(w, "fs.read", path_body("null"), true), 403);
}

/* Row 86. */
static void ranges_are_checked(void **state)
{
    world *w = *state;
    assert_int_equal(ask(w, "fs.read", range_body("hello.txt", dp_value_int(12), NULL), true), 416);
    assert_int_equal(ask(w, "fs.read", range_body("hello.txt", dp_value_int(-1), NULL), true), 400);
    assert_int_equal(ask(w, "fs.read", range_body("hello.txt", dp_value_int(1), dp_value_int(-1)), true),
                     400);
    assert_int_equal(ask(w, "fs.read", range_body("hello.txt", dp_value_double(0.5), NULL), true), 400);
    assert_int_equal(ask(w, "fs.read", range_body("hello.txt", dp_value_string("0"), NULL), true), 400);
    assert_int_equal(ask(w, "fs.read", range_body("hello.txt", dp_value_uint(UINT64_MAX), NULL), true), 400);
    /* offset + length would overflow: the rest of the file. */
    assert_int_equal(
        ask(w, "fs.read", range_body("hello.txt", dp_value_int(10), dp_value_int(INT64_MAX)), true), 200);
    assert_int_equal(w->length, 1);
}

/* Row 87: the reader gets an error, no false end. */
static void a_file_that_shrinks_is_an_error(void **state)
{
    world *w = *state;
    char *big = calloc(1, 200000);
    assert_non_null(big);
    make_file(w->root, "big", big, 200000);
    free(big);
    w->error = DP_ERR_WOULD_BLOCK;
    dp_request request = {.size = sizeof(request),
                          .action = "fs.read",
                          .body = path_body("big"),
                          .on_data = on_data,
                          .on_done = on_done,
                          .user = w};
    assert_int_equal(dp_rpc_request(w->client, 0, &request, NULL), DP_OK);
    assert_true(move(w->client, w->server));
    assert_true(move(w->server, w->client));
    assert_int_equal(truncate(in_root(w, "big"), 20000), 0);
    while (move(w->server, w->client)) {
    }
    assert_int_equal(w->error, DP_ERR_REMOTE);
    assert_int_equal(w->code, 500);
    assert_int_equal(w->total, 200000);
    assert_true(w->length < 200000);
}

static void a_missing_root_is_an_error(void **state)
{
    disk *d;
    (void)state;
    assert_int_equal(disk_open(&d, "/nowhere/at/all"), DP_ERR_IO);
    assert_int_equal(errno, ENOENT);
    assert_int_equal(disk_open(&d, "/dev/null"), DP_ERR_IO);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(lists_a_folder, set_up, tear_down),
        cmocka_unit_test_setup_teardown(counts_names_that_are_no_text, set_up, tear_down),
        cmocka_unit_test_setup_teardown(lists_no_more_than_its_limit, set_up, tear_down),
        cmocka_unit_test_setup_teardown(stats_and_reads, set_up, tear_down),
        cmocka_unit_test_setup_teardown(no_path_leads_outside, set_up, tear_down),
        cmocka_unit_test_setup_teardown(odd_paths_are_refused, set_up, tear_down),
        cmocka_unit_test_setup_teardown(only_files_are_read, set_up, tear_down),
        cmocka_unit_test_setup_teardown(ranges_are_checked, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_file_that_shrinks_is_an_error, set_up, tear_down),
        cmocka_unit_test(a_missing_root_is_an_error),
    };
    return cmocka_run_group_tests_name("disk", tests, NULL, NULL);
}
