#include "app.h"

#include <stdio.h>
#include <string.h>

static const char help[] =
    "datapeer " DP_VERSION ": files and requests over WebRTC data channels, reachable by PeerJS pages\n"
    "\n"
    "  datapeer serve DIR        let browsers list and read the files in DIR\n"
    "  datapeer ls ID[:PATH]     list a folder of a device\n"
    "  datapeer get ID:PATH      download a file from a device\n"
    "  datapeer signal           be the PeerServer by which peers find each other\n"
    "  datapeer peer             drive PeerJS connections with JSON lines (for tests)\n"
    "  datapeer pc               drive one raw peer connection with JSON lines (for tests)\n"
    "\n"
    "Each explains its options: datapeer serve --help. --version tells the version.\n"
    "\n"
    "Exit status: 0 done, 1 refused or failed, 2 wrong use, 3 not reachable, 4 not who it should be,\n"
    "130 interrupted.\n";

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        int (*run)(int argc, char **argv);
    } commands[] = {{"serve", cmd_serve}, {"ls", cmd_ls}, {"get", cmd_get},
                    {"peer", cmd_peer},   {"pc", cmd_pc}, {"signal", cmd_signal}};
    if (argc < 2) {
        fputs(help, stderr);
        return EXIT_USAGE;
    }
    for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++)
        if (strcmp(argv[1], commands[i].name) == 0)
            return commands[i].run(argc - 1, argv + 1);
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 || strcmp(argv[1], "help") == 0) {
        fputs(help, stdout);
        return EXIT_OK;
    }
    if (strcmp(argv[1], "--version") == 0) {
        puts("datapeer " DP_VERSION);
        return EXIT_OK;
    }
    app_error("'%s' is no command; see 'datapeer --help'", argv[1]);
    return EXIT_USAGE;
}
