/* A main for fuzz targets built without libFuzzer: runs each file of the given folders and files through the
 * target once. */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static unsigned long files;

static int replay_file(const char *path)
{
    FILE *f = fopen(path, "rb");
    if (f == NULL) {
        perror(path);
        return 1;
    }
    /* One spare byte, so that an empty file has a valid address too. */
    enum { LIMIT = 1 << 20 };
    uint8_t *data = malloc(LIMIT + 1);
    size_t size = data == NULL ? 0 : fread(data, 1, LIMIT, f);
    fclose(f);
    /* An exact-sized copy: ASan then sees a read of one byte too many. */
    uint8_t *exact = malloc(size > 0 ? size : 1);
    if (data == NULL || exact == NULL) {
        free(data);
        free(exact);
        return 1;
    }
    for (size_t i = 0; i < size; i++)
        exact[i] = data[i];
    free(data);
    LLVMFuzzerTestOneInput(exact, size);
    free(exact);
    files++;
    return 0;
}

static int replay_path(const char *path)
{
    struct stat st;
    if (stat(path, &st) != 0) {
        perror(path);
        return 1;
    }
    if (!S_ISDIR(st.st_mode))
        return replay_file(path);
    DIR *dir = opendir(path);
    if (dir == NULL) {
        perror(path);
        return 1;
    }
    int failed = 0;
    for (struct dirent *entry; (entry = readdir(dir)) != NULL;) {
        char name[4096];
        if (entry->d_name[0] == '.')
            continue;
        snprintf(name, sizeof(name), "%s/%s", path, entry->d_name);
        failed |= replay_path(name);
    }
    closedir(dir);
    return failed;
}

int main(int argc, char **argv)
{
    int failed = argc < 2;
    for (int i = 1; i < argc; i++)
        failed |= replay_path(argv[i]);
    if (files == 0) /* an empty corpus tests nothing */
        failed = 1;
    printf("%s: %lu inputs%s\n", argv[0], files, failed ? ", FAILED" : "");
    return failed;
}
