/* --certificate, --ephemeral, --fingerprint and SSLKEYLOGFILE. */
#include "capture.h"

#include "apps/app.h"
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>

static char folder[64];
static dp_csprng *csprng;
static dp_random source;

static int set_up(void **state)
{
    (void)state;
    snprintf(folder, sizeof(folder), "/tmp/datapeer-apps-XXXXXX");
    if (mkdtemp(folder) == NULL || dp_csprng_new(&csprng) != DP_OK)
        return -1;
    source = dp_csprng_source(csprng);
    unsetenv("XDG_STATE_HOME");
    return setenv("HOME", folder, 1);
}

static int tear_down(void **state)
{
    (void)state;
    char command[128];
    dp_csprng_free(csprng);
    snprintf(command, sizeof(command), "rm -rf %s", folder);
    return system(command);
}

static const char *in_folder(const char *name)
{
    static char path[160];
    snprintf(path, sizeof(path), "%s/%s", folder, name);
    return path;
}

/* ---- options ---- */

#define SHA256                                                                                               \
    "AB:CD:EF:01:23:45:67:89:ab:cd:ef:01:23:45:67:89:AB:CD:EF:01:23:45:67:89:AB:CD:EF:01:23:45:67:89"
#define HALF "00:11:22:33:44:55:66:77:88:99:AA:BB:CC:DD:EE:FF"

static void a_pin_is_read(void **state)
{
    (void)state;
    static const char *const good[] = {"sha-256 " SHA256, "SHA-384 " HALF ":" HALF ":" HALF,
                                       "sha-512 " HALF ":" HALF ":" HALF ":" HALF};
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        identity_options o = {0};
        capture();
        assert_true(identity_set_pin(&o, good[i]));
        captured_is("");
        assert_true(o.pinned);
        assert_int_equal(o.pin.length, 32 + 16 * i);
    }
}

static void a_bad_pin_is_explained(void **state)
{
    (void)state;
    static const struct {
        const char *text, *why;
    } bad[] = {
        {"", "none of sha-256"},
        {SHA256, "none of sha-256"},
        {"sha-1 00:11:22:33:44:55:66:77:88:99:AA:BB:CC:DD:EE:FF:00:11:22:33", "none of sha-256"},
        {"md5 " HALF, "none of sha-256"},
        {"sha-256", "all its bytes"}, /* the quotes are missing */
        {"sha-256 " HALF, "all its bytes"},
        {"sha-256 " SHA256 ":00", "all its bytes"},
        {"sha-256  " SHA256, "all its bytes"},
        {"sha-384 " SHA256, "all its bytes"},
        {"sha-256 " HALF ":" HALF " ", "all its bytes"},
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        identity_options o = {0};
        capture();
        bool taken = identity_set_pin(&o, bad[i].text);
        const char *said = end_capture();
        assert_false(taken || o.pinned);
        assert_non_null(strstr(said, bad[i].why));
        assert_non_null(strstr(said, "it should look like 'sha-256 AB:CD:...'"));
    }
}

static void options_fit_together(void **state)
{
    (void)state;
    static const struct {
        identity_options options;
        const char *command;
        const char *said; /* NULL: all is well */
    } cases[] = {
        {{.pinned = true}, "ls", NULL},
        {{.pinned = true}, "get", NULL},
        {{.pinned = true}, "serve", "for 'datapeer ls' and 'get'"},
        {{.pinned = true}, "peer", "for 'datapeer ls' and 'get'"},
        {{.file = "x"}, "serve", NULL},
        {{.ephemeral = true}, "serve", NULL},
        {{.file = "x", .ephemeral = true}, "get", "choose one"},
        {{.file = ""}, "serve", "name of a file"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        capture();
        bool good = identity_check(&cases[i].options, cases[i].command);
        const char *said = end_capture();
        assert_int_equal(good, cases[i].said == NULL);
        assert_true(good ? said[0] == '\0' : strstr(said, cases[i].said) != NULL);
    }
}

/* ---- the certificate ---- */

/* The fingerprint; what is printed begins with said. */
static dp_fingerprint open_as(identity_options o, bool lasting, bool verbose, const char *said)
{
    dp_certificate *certificate = NULL;
    dp_fingerprint fp;
    capture();
    bool opened = identity_open(&certificate, &o, &source, lasting, verbose);
    const char *text = end_capture();
    assert_true(opened);
    assert_true(said[0] == '\0' ? text[0] == '\0' : strncmp(text, said, strlen(said)) == 0);
    dp_certificate_fingerprint(certificate, &fp);
    dp_certificate_free(certificate);
    return fp;
}

static void same(dp_fingerprint a, dp_fingerprint b) { assert_memory_equal(&a, &b, sizeof(a)); }
static void differ(dp_fingerprint a, dp_fingerprint b) { assert_memory_not_equal(&a, &b, sizeof(a)); }
static const identity_options none;

static void a_server_is_the_same_tomorrow(void **state)
{
    (void)state;
    dp_fingerprint home = open_as(none, true, false, "");
    same(home, open_as(none, true, false, ""));
    assert_int_equal(access(in_folder(".local/state/datapeer/certificate.pem"), F_OK), 0);
    /* XDG: its own variable goes before HOME, if it is absolute. */
    assert_int_equal(setenv("XDG_STATE_HOME", in_folder("state"), 1), 0);
    dp_fingerprint state_home = open_as(none, true, false, "");
    differ(home, state_home);
    assert_int_equal(access(in_folder("state/datapeer/certificate.pem"), F_OK), 0);
    assert_int_equal(setenv("XDG_STATE_HOME", "relative", 1), 0);
    same(home, open_as(none, true, false, ""));
    /* A file that is named goes before both; it lasts for a client as well. */
    identity_options named = {.file = in_folder("mine.pem")};
    dp_fingerprint mine = open_as(named, true, false, "");
    differ(home, mine);
    same(mine, open_as(named, false, false, ""));
    char told[256];
    snprintf(told, sizeof(told), "datapeer: the certificate in %s is valid to 2", named.file);
    same(mine, open_as(named, true, true, told));
}

static void others_are_new_each_time(void **state)
{
    (void)state;
    identity_options ephemeral = {.ephemeral = true};
    differ(open_as(none, false, false, ""), open_as(none, false, false, ""));
    differ(open_as(ephemeral, true, false, ""), open_as(ephemeral, true, false, ""));
    assert_int_equal(access(in_folder(".local"), F_OK), -1);
}

static void without_a_home_nothing_is_kept(void **state)
{
    (void)state;
    static const char *const homes[] = {NULL, "", "relative"};
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(homes[i] == NULL ? unsetenv("HOME") : setenv("HOME", homes[i], 1), 0);
        open_as(none, true, false, "datapeer: without a HOME of our own the certificate can't be kept");
    }
}

/* As after sudo -E: a folder of root's in it would keep its user out. */
static void root_makes_nothing_in_another_users_home(void **state)
{
    (void)state;
    if (geteuid() != 0)
        skip();
    assert_int_equal(mkdir(in_folder("home"), 0700), 0);
    assert_int_equal(chown(in_folder("home"), 65534, 65534), 0);
    assert_int_equal(setenv("HOME", in_folder("home"), 1), 0);
    open_as(none, true, false, "datapeer: without a HOME of our own");
    assert_int_equal(setenv("XDG_STATE_HOME", in_folder("home"), 1), 0);
    open_as(none, true, false, "datapeer: without a HOME of our own");
    assert_int_equal(rmdir(in_folder("home")), 0); /* it is empty */
    /* Its own is used, and so is one that is to be made. */
    assert_int_equal(setenv("HOME", folder, 1), 0);
    assert_int_equal(setenv("XDG_STATE_HOME", in_folder("new"), 1), 0);
    same(open_as(none, true, false, ""), open_as(none, true, false, ""));
}

static void a_file_that_is_no_good_ends_it(void **state)
{
    (void)state;
    dp_certificate *certificate = NULL;
    identity_options named = {.file = in_folder("mine.pem")};
    open_as(named, true, false, "");
    assert_int_equal(chmod(named.file, 0640), 0);
    for (int is_default = 0; is_default < 2; is_default++) {
        if (is_default) {
            assert_int_equal(mkdir(in_folder("datapeer"), 0700), 0);
            assert_int_equal(mkdir(in_folder("datapeer/certificate.pem"), 0700), 0);
            assert_int_equal(setenv("XDG_STATE_HOME", folder, 1), 0);
            named.file = NULL;
        }
        capture();
        bool opened = identity_open(&certificate, &named, &source, true, false);
        const char *said = end_capture();
        assert_false(opened);
        assert_non_null(strstr(said, is_default ? "/datapeer/certificate.pem is a folder" : "chmod 600"));
        assert_int_equal(strstr(said, "--ephemeral") != NULL, is_default);
    }
}

/* ---- key log ---- */

static void read_back(const char *path, char *out, size_t capacity)
{
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    out[fread(out, 1, capacity - 1, file)] = '\0';
    fclose(file);
}

static void keys_are_added_to_the_file(void **state)
{
    (void)state;
    struct stat st;
    char text[64];
    const char *path = in_folder("keys");
    for (int run = 0; run < 2; run++) {
        key_log_file file;
        capture();
        dp_key_log log = key_log_open(&file, path);
        assert_non_null(strstr(end_capture(), "SSLKEYLOGFILE is set: whoever reads"));
        assert_non_null(log.fn);
        log.fn(log.ctx, run == 0 ? "one" : "two");
        key_log_close(&file);
    }
    read_back(path, text, sizeof(text));
    assert_string_equal(text, "one\ntwo\n");
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode, S_IFREG | 0600);
}

static void no_log_is_silent(void **state)
{
    (void)state;
    key_log_file file;
    capture();
    dp_key_log log = key_log_open(&file, NULL);
    key_log_close(&file);
    captured_is("");
    assert_null(log.fn);
}

static void a_log_that_cannot_be_written_is_told(void **state)
{
    (void)state;
    key_log_file file;
    assert_int_equal(mkfifo(in_folder("fifo"), 0600), 0); /* that nobody reads: must not hang */
    static const char *const names[] = {"", "no/such/folder", "fifo"};
    for (size_t i = 0; i < 3; i++) {
        capture();
        dp_key_log log = key_log_open(&file, in_folder(names[i]));
        key_log_close(&file);
        const char *said = end_capture();
        assert_null(log.fn);
        assert_non_null(strstr(said, "(SSLKEYLOGFILE)"));
        assert_non_null(strstr(said, "going on without"));
    }
}

/* Once. */
static void a_full_disk_is_told(void **state)
{
    (void)state;
    key_log_file file;
    capture();
    dp_key_log log = key_log_open(&file, "/dev/full");
    end_capture();
    assert_non_null(log.fn);
    capture();
    log.fn(log.ctx, "one");
    log.fn(log.ctx, "two");
    captured_is("datapeer: a key could not be added to /dev/full (SSLKEYLOGFILE): No space left on device\n");
    key_log_close(&file);
}

/* A FIFO whose reader has left raises SIGPIPE, which would end the program. */
static void a_reader_may_leave(void **state)
{
    (void)state;
    key_log_file file;
    char text[8] = "";
    const char *path = in_folder("fifo");
    assert_int_equal(mkfifo(path, 0600), 0);
    int reader = open(path, O_RDONLY | O_NONBLOCK);
    assert_true(reader >= 0);
    signal(SIGPIPE, SIG_DFL);
    capture();
    dp_key_log log = key_log_open(&file, path);
    log.fn(log.ctx, "one");
    assert_non_null(strstr(end_capture(), "SSLKEYLOGFILE is set"));
    assert_int_equal(read(reader, text, sizeof(text)), 4);
    assert_memory_equal(text, "one\n", 4);
    close(reader);
    capture();
    log.fn(log.ctx, "two");
    assert_non_null(strstr(end_capture(), strerror(EPIPE)));
    key_log_close(&file);
}

/* As on a disk with less room than a line needs; what is told goes into a pipe, which has no such limit. */
static void half_a_line_is_told(void **state)
{
    (void)state;
    key_log_file file;
    struct rlimit old;
    int out[2];
    char said[512];
    capture();
    dp_key_log log = key_log_open(&file, in_folder("keys"));
    assert_int_equal(pipe(out), 0);
    assert_int_equal(dup2(out[1], STDERR_FILENO), STDERR_FILENO);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    struct rlimit limit = {2, old.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
    errno = 0;
    log.fn(log.ctx, "one");
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
    end_capture();
    close(out[1]);
    ssize_t len = read(out[0], said, sizeof(said) - 1);
    assert_true(len >= 0);
    said[len] = '\0';
    assert_non_null(strstr(said, "(SSLKEYLOGFILE): there is no room for all of it"));
    close(out[0]);
    key_log_close(&file);
}

static void the_environment_turns_it_on(void **state)
{
    (void)state;
    for (int on = 0; on < 2; on++) {
        app a = {0};
        assert_int_equal(setenv("SSLKEYLOGFILE", on ? in_folder("keys") : "", 1), 0);
        capture();
        int code = app_start(&a);
        const char *said = end_capture();
        assert_int_equal(code, EXIT_OK);
        assert_int_equal(a.key_log.fn != NULL, on);
        assert_int_equal(strstr(said, "SSLKEYLOGFILE is set") != NULL, on);
        app_finish(&a);
        assert_false(a.key_log_file.open);
    }
    unsetenv("SSLKEYLOGFILE");
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_pin_is_read),
        TEST(a_bad_pin_is_explained),
        TEST(options_fit_together),
        TEST(a_server_is_the_same_tomorrow),
        TEST(others_are_new_each_time),
        TEST(without_a_home_nothing_is_kept),
        TEST(root_makes_nothing_in_another_users_home),
        TEST(a_file_that_is_no_good_ends_it),
        TEST(keys_are_added_to_the_file),
        TEST(no_log_is_silent),
        TEST(a_log_that_cannot_be_written_is_told),
        TEST(a_full_disk_is_told),
        TEST(a_reader_may_leave),
        TEST(half_a_line_is_told),
        TEST(the_environment_turns_it_on),
    };
    return cmocka_run_group_tests_name("identity", tests, NULL, NULL);
}
