/* Files that hold secrets: who may read them, and that they appear whole, once and for one user. */
#include "helper.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

enum { NOBODY = 65534 };

static char folder[64];
static char path[128]; /* of the file in it */
static uint8_t bytes[64];
static size_t len;
static dp_file_error error;

/* The least descriptor that is free: it grows if one is left open. */
static int free_descriptor(void)
{
    int fd = dup(STDIN_FILENO);
    close(fd);
    return fd;
}

static int descriptor_before;

static int make_folder(void **state)
{
    (void)state;
    descriptor_before = free_descriptor();
    snprintf(folder, sizeof(folder), "/tmp/datapeer-secret-XXXXXX");
    if (mkdtemp(folder) == NULL)
        return -1;
    snprintf(path, sizeof(path), "%s/secret", folder);
    memset(&error, 0, sizeof(error));
    return 0;
}

static int remove_folder(void **state)
{
    (void)state;
    char command[128];
    snprintf(command, sizeof(command), "rm -rf %s", folder);
    return system(command) + (free_descriptor() != descriptor_before);
}

static void write_file(const char *text, mode_t mode)
{
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs(text, file);
    assert_int_equal(fclose(file), 0);
    assert_int_equal(chmod(path, mode), 0);
}

/* How many names there are in the folder. */
static unsigned names(void)
{
    unsigned count = 0;
    DIR *dir = opendir(folder);
    assert_non_null(dir);
    for (const struct dirent *entry; (entry = readdir(dir)) != NULL;)
        count += entry->d_name[0] != '.';
    closedir(dir);
    return count;
}

static void refused(int code, const char *advice)
{
    assert_int_equal(dp_secret_file_read(bytes, sizeof(bytes), &len, path, &error), code);
    assert_non_null(strstr(error.message, path));
    if (strstr(error.message, advice) == NULL)
        fail_msg("'%s' says nothing of '%s'", error.message, advice);
}

/* Runs act in a process of its own, as another user if this one is root; its exit code. */
static int in_child(int (*act)(void))
{
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        if (geteuid() == 0 && setresuid(NOBODY, NOBODY, NOBODY) != 0)
            _exit(100);
        _exit(act());
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128;
}

static void give_to_child(const char *name)
{
    if (geteuid() == 0)
        assert_int_equal(chown(name, NOBODY, NOBODY), 0);
}

/* ---- reading ---- */

static void reads_what_is_ours_alone(void **state)
{
    (void)state;
    for (mode_t mode = 0400; mode <= 0600; mode += 0200) {
        write_file("secret text", mode);
        assert_int_equal(dp_secret_file_read(bytes, sizeof(bytes), &len, path, &error), DP_OK);
        assert_int_equal(len, 11);
        assert_memory_equal(bytes, "secret text", 11);
        assert_int_equal(unlink(path), 0);
    }
    write_file("", 0600);
    assert_int_equal(dp_secret_file_read(bytes, sizeof(bytes), &len, path, &error), DP_OK);
    assert_int_equal(len, 0);
}

static void others_must_not_get_at_it(void **state)
{
    (void)state;
    static const mode_t modes[] = {0640, 0620, 0610, 0604, 0602, 0601, 0666};
    write_file("secret", 0600);
    for (size_t i = 0; i < sizeof(modes) / sizeof(modes[0]); i++) {
        assert_int_equal(chmod(path, modes[i]), 0);
        refused(DP_ERR_DENIED, "chmod 600");
    }
}

static void a_size_has_a_limit(void **state)
{
    (void)state;
    char text[sizeof(bytes) + 2];
    memset(text, 'x', sizeof(text));
    text[sizeof(bytes)] = '\0';
    write_file(text, 0600);
    assert_int_equal(dp_secret_file_read(bytes, sizeof(bytes), &len, path, &error), DP_OK);
    assert_int_equal(len, sizeof(bytes));
    text[sizeof(bytes)] = 'x';
    text[sizeof(bytes) + 1] = '\0';
    write_file(text, 0600);
    refused(DP_ERR_TOO_LARGE, "65 bytes");
    assert_int_equal(truncate(path, (off_t)1 << 40), 0);
    refused(DP_ERR_TOO_LARGE, "1099511627776 bytes");
}

static void what_is_no_file_is_refused(void **state)
{
    (void)state;
    refused(DP_ERR_NOT_FOUND, "no such file");
    assert_int_equal(mkdir(path, 0700), 0);
    refused(DP_ERR_DENIED, "folder");
    assert_int_equal(rmdir(path), 0);
    assert_int_equal(mkfifo(path, 0600), 0); /* nobody writes: a plain open would wait for ever */
    refused(DP_ERR_DENIED, "no plain file");
    assert_int_equal(unlink(path), 0);
    assert_int_equal(symlink("/dev/null", path), 0);
    refused(DP_ERR_DENIED, "symbolic link");
    assert_int_equal(unlink(path), 0);
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    snprintf(name.sun_path, sizeof(name.sun_path), "%.100s", path);
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&name, sizeof(name)), 0);
    close(fd);
    refused(DP_ERR_DENIED, "no plain file");
    snprintf(path, sizeof(path), "/dev/null");
    refused(DP_ERR_DENIED, "no plain file");
    snprintf(path, sizeof(path), "/proc/self/status/x");
    refused(DP_ERR_IO, strerror(ENOTDIR));
}

/* 1: refused because of the owner, 2: can't even be read. */
static int read_in_child(void)
{
    if (dp_secret_file_read(bytes, sizeof(bytes), &len, path, &error) != DP_ERR_DENIED)
        return 0;
    return strstr(error.message, "another user") != NULL    ? 1
           : strstr(error.message, "can't be read") != NULL ? 2
                                                            : 3;
}

static void another_users_file_is_refused(void **state)
{
    (void)state;
    write_file("secret", 0000);
    assert_int_equal(chmod(folder, 0755), 0);
    give_to_child(path);
    assert_int_equal(in_child(read_in_child), 2); /* ours, but closed to ourselves */
    if (geteuid() != 0)
        return; /* only root has another user's file at hand */
    assert_int_equal(chmod(path, 0600), 0);
    assert_int_equal(dp_secret_file_read(bytes, sizeof(bytes), &len, path, &error), DP_ERR_DENIED);
    assert_non_null(strstr(error.message, "another user (65534)"));
}

/* ---- making ---- */

static void is_made_for_us_alone(void **state)
{
    (void)state;
    static const mode_t masks[] = {022, 0, 0777};
    struct stat st;
    for (size_t i = 0; i < sizeof(masks) / sizeof(masks[0]); i++) {
        mode_t old = umask(masks[i]);
        int result = dp_secret_file_create(path, "abc", 3, &error);
        umask(old);
        assert_int_equal(result, DP_OK);
        assert_int_equal(stat(path, &st), 0);
        assert_int_equal(st.st_mode, S_IFREG | 0600);
        assert_int_equal(st.st_nlink, 1);
        assert_int_equal(names(), 1);
        assert_int_equal(dp_secret_file_read(bytes, sizeof(bytes), &len, path, &error), DP_OK);
        assert_int_equal(len, 3);
        assert_memory_equal(bytes, "abc", 3);
        assert_int_equal(unlink(path), 0);
    }
}

static void what_is_there_stays(void **state)
{
    (void)state;
    write_file("old", 0600);
    assert_int_equal(dp_secret_file_create(path, "new", 3, &error), DP_ERR_EXISTS);
    assert_non_null(strstr(error.message, path));
    assert_int_equal(dp_secret_file_read(bytes, sizeof(bytes), &len, path, &error), DP_OK);
    assert_memory_equal(bytes, "old", 3);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(symlink("nowhere", path), 0); /* not followed either */
    assert_int_equal(dp_secret_file_create(path, "new", 3, &error), DP_ERR_EXISTS);
    assert_int_equal(names(), 1);
}

static void missing_folders_are_made(void **state)
{
    (void)state;
    struct stat st;
    snprintf(path, sizeof(path), "%s/one//two/./secret", folder);
    assert_int_equal(dp_secret_file_create(path, "abc", 3, &error), DP_OK);
    assert_int_equal(stat(path, &st), 0);
    snprintf(path, sizeof(path), "%s/one/two", folder);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode, S_IFDIR | 0700);
    /* A file is no folder. */
    snprintf(path, sizeof(path), "%s/one/two/secret/three/four", folder);
    assert_int_equal(dp_secret_file_create(path, "abc", 3, &error), DP_ERR_IO);
    assert_non_null(strstr(error.message, strerror(ENOTDIR)));
    /* A name without any folder, and the working folder's. */
    assert_int_equal(chdir(folder), 0);
    assert_int_equal(dp_secret_file_create("secret", "abc", 3, &error), DP_OK);
    assert_int_equal(stat("secret", &st), 0);
    assert_int_equal(chdir("/"), 0);
}

/* libc's, for the code under test: what is made safe, and what was to be seen by then. */
static struct synced {
    unsigned files, folders;
    bool named; /* when the last one was synced, the file had its name */
    int fail;   /* errno */
} synced;

int fsync(int fd)
{
    struct stat st;
    assert_int_equal(fstat(fd, &st), 0);
    synced.files += S_ISREG(st.st_mode) && st.st_size == 3;
    synced.folders += S_ISDIR(st.st_mode);
    synced.named = access(path, F_OK) == 0;
    errno = synced.fail;
    return synced.fail == 0 ? 0 : -1;
}

/* A name without its bytes would be a certificate for ever that is none; a name that is lost, another fingerprint. */
static void a_power_cut_leaves_all_or_nothing(void **state)
{
    (void)state;
    synced = (struct synced){.fail = EIO};
    assert_int_equal(dp_secret_file_create(path, "abc", 3, &error), DP_ERR_IO);
    assert_non_null(strstr(error.message, strerror(EIO)));
    assert_int_equal(synced.files, 1);
    assert_false(synced.named); /* first the bytes */
    assert_int_equal(names(), 0);
    synced = (struct synced){0};
    assert_int_equal(dp_secret_file_create(path, "abc", 3, &error), DP_OK);
    assert_int_equal(synced.files, 1);
    assert_int_equal(synced.folders, 1);
    assert_true(synced.named); /* then the name */
}

static int create_in_child(void)
{
    int result = dp_secret_file_create(path, "abc", 3, &error);
    return result == DP_ERR_IO && strstr(error.message, path) != NULL &&
                   strstr(error.message, strerror(EACCES)) != NULL
               ? 0
               : 1;
}

static int create_deeper_in_child(void)
{
    char made[128];
    snprintf(made, sizeof(made), "%s", path);
    strcat(path, "/deeper");
    int result = dp_secret_file_create(path, "abc", 3, &error);
    return result == DP_ERR_IO && strstr(error.message, made) != NULL &&
                   strstr(error.message, strerror(EACCES)) != NULL
               ? 0
               : 1;
}

static void a_closed_folder_is_told(void **state)
{
    (void)state;
    assert_int_equal(chmod(folder, 0555), 0);
    assert_int_equal(in_child(create_in_child), 0);
    assert_int_equal(in_child(create_deeper_in_child), 0);
    assert_int_equal(chmod(folder, 0700), 0);
}

/* No more than 100 bytes may be written, as on a full disk. */
static int fill_disk(void)
{
    static const char much[200];
    struct rlimit limit = {100, 100};
    signal(SIGXFSZ, SIG_IGN);
    if (setrlimit(RLIMIT_FSIZE, &limit) != 0)
        return 2;
    int result = dp_secret_file_create(path, much, sizeof(much), &error);
    return result == DP_ERR_IO && strstr(error.message, strerror(EFBIG)) != NULL && names() == 0 ? 0 : 1;
}

static void a_full_disk_leaves_nothing(void **state)
{
    (void)state;
    give_to_child(folder);
    assert_int_equal(in_child(fill_disk), 0);
    assert_int_equal(names(), 0);
}

/* All begin when the pipe is closed; one wins, and every loser finds its bytes, whole. */
static void of_many_at_once_one_wins(void **state)
{
    (void)state;
    enum { RIVALS = 8 };
    int start[2];
    unsigned won = 0;
    pid_t rivals[RIVALS];
    assert_int_equal(pipe(start), 0);
    for (int i = 0; i < RIVALS; i++) {
        rivals[i] = fork();
        assert_true(rivals[i] >= 0);
        if (rivals[i] > 0)
            continue;
        char mine[40], byte;
        memset(mine, 'a' + i, sizeof(mine));
        close(start[1]);
        (void)!read(start[0], &byte, 1);
        int result = dp_secret_file_create(path, mine, sizeof(mine), &error);
        bool whole = dp_secret_file_read(bytes, sizeof(bytes), &len, path, &error) == DP_OK &&
                     len == sizeof(mine) && (result == DP_OK) == (memcmp(bytes, mine, len) == 0);
        _exit(!whole ? 2 : result == DP_OK ? 0 : result == DP_ERR_EXISTS ? 1 : 2);
    }
    close(start[0]);
    close(start[1]);
    for (int i = 0; i < RIVALS; i++) {
        int status;
        assert_int_equal(waitpid(rivals[i], &status, 0), rivals[i]);
        assert_true(WIFEXITED(status) && WEXITSTATUS(status) < 2);
        won += WEXITSTATUS(status) == 0;
    }
    assert_int_equal(won, 1);
    assert_int_equal(names(), 1);
}

static void out_of_memory(void **state)
{
    (void)state;
    fail_allocation(1);
    int result = dp_secret_file_create(path, "abc", 3, &error);
    fail_allocation(0);
    assert_int_equal(result, DP_ERR_NO_MEMORY);
    assert_int_equal(names(), 0);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, make_folder, remove_folder)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(reads_what_is_ours_alone),
        TEST(others_must_not_get_at_it),
        TEST(a_size_has_a_limit),
        TEST(what_is_no_file_is_refused),
        TEST(is_made_for_us_alone),
        TEST(what_is_there_stays),
        TEST(another_users_file_is_refused),
        TEST(missing_folders_are_made),
        TEST(a_closed_folder_is_told),
        TEST(a_full_disk_leaves_nothing),
        TEST(of_many_at_once_one_wins),
        TEST(out_of_memory),
        TEST(a_power_cut_leaves_all_or_nothing),
    };
    return cmocka_run_group_tests_name("secret_file", tests, NULL, NULL);
}
