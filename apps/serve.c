#include "disk.h"
#include "home.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static const char help[] =
    "Usage: datapeer serve DIR [--id ID] [--port N] [--server URL] [options]\n"
    "\n"
    "Lets everybody who knows the id list and read (never change) the files in DIR: with a browser, at the "
    "address\n"
    "that it prints, or with 'datapeer ls' and 'get'. It needs nothing else: it is the PeerServer by which "
    "others find\n"
    "it, and has the page, for the local network; --server names another PeerServer instead. Prints the "
    "fingerprint of\n"
    "its certificate, which others may demand, and the id once it can be called; Ctrl-C ends it. All "
    "connections use\n"
    "one UDP port: any free one, or N.\n"
    "\n"
    "Example: datapeer serve ~/Pictures --id my-pictures\n"
    "         datapeer serve ~/Pictures --id my-pictures --server wss://peers.example.org/\n"
    "\n"
    "  --lite                 on a public address that everybody reaches: only answer (ICE lite)\n"
    "  -v, -vv, -vvv          say more on standard error\n";

enum { FIND_AGAIN_MIN = 10, FIND_AGAIN_MAX = 640 }; /* seconds */

typedef struct server {
    app app;
    dp_router *router;
    disk *disk;
    const char *folder;
    bool was_away; /* the PeerServer could not be reached */
    home home;     /* if no other PeerServer is named */
    dp_timer find_again;
    unsigned find_again_in; /* seconds */
} server;

/* What 'datapeer get --fingerprint' takes. */
static void print_fingerprint(const dp_certificate *certificate)
{
    dp_fingerprint fp;
    char text[DP_FINGERPRINT_TEXT_MAX];
    dp_certificate_fingerprint(certificate, &fp);
    printf("fingerprint %s\n", dp_fingerprint_format(&fp, text));
    fflush(stdout);
}

/* STUN and TURN servers that were not found: there may have been no network when we started. */
static void find_later(server *s)
{
    if (s->app.missing_servers == 0)
        return;
    s->find_again_in = s->find_again_in == 0 ? FIND_AGAIN_MIN : s->find_again_in * 2;
    if (s->find_again_in > FIND_AGAIN_MAX)
        s->find_again_in = FIND_AGAIN_MAX;
    (void)dp_timer_set(s->app.loop, &s->find_again, dp_loop_now(s->app.loop) + DP_SECONDS(s->find_again_in));
}

static void on_find_again(void *user)
{
    server *s = user;
    app_find_servers(&s->app);
    find_later(s);
}

static void on_open(void *user, dp_peer *peer, const char *id)
{
    server *s = user;
    printf("serving %s as %s (UDP port %u)\n", s->folder, id, dp_peer_udp_port(peer));
    fflush(stdout);
    int code = home_answer(&s->home, id);
    if (code != EXIT_OK)
        app_stop(&s->app, code);
    if (s->was_away)
        app_find_servers(&s->app);
    find_later(s);
}

static void on_connection_error(void *user, dp_connection *conn, const char *type, const char *message)
{
    server *s = user;
    app_error("%s: %s: %s", dp_connection_remote_id(conn), type, message);
    app_explain_failure(&s->app);
}

static void on_connection(void *user, dp_peer *peer, dp_connection *conn)
{
    server *s = user;
    (void)peer;
    dp_connection_handler handler = {.on_error = on_connection_error, .user = s};
    dp_connection_set_handler(conn, &handler);
    if (dp_connection_use_rpc(conn, s->router) != DP_OK)
        dp_connection_close(conn); /* raw: nothing that could carry requests */
}

static void on_disconnected(void *user, dp_peer *peer, const char *reason)
{
    server *s = user;
    (void)peer;
    s->was_away = true;
    if (s->app.exit_code == EXIT_OK && !s->app.interrupted)
        app_error("the PeerServer %s: %s; trying again", s->app.server, reason);
}

static void on_error(void *user, dp_peer *peer, const char *type, const char *message)
{
    server *s = user;
    (void)peer;
    if (strcmp(type, "unavailable-id") == 0) {
        app_error("the id is taken on %s: choose another with --id", s->app.server);
        app_stop(&s->app, EXIT_REMOTE);
    } else if (strcmp(type, "invalid-key") == 0) {
        app_error("%s refuses the key: give the right one with --key", s->app.server);
        app_stop(&s->app, EXIT_REMOTE);
    } else {
        app_error("%s: %s", type, message);
        if (strcmp(type, "ssl-unavailable") == 0 && !s->was_away)
            way_explain(message);
    }
}

static int open_folder(server *s)
{
    int error = disk_open(&s->disk, s->folder);
    if (error == DP_ERR_IO)
        app_error("%s: %s", s->folder, strerror(errno));
    else if (error == DP_ERR_UNSUPPORTED)
        app_error("this kernel has no openat2(2); Linux 5.6 or newer is needed");
    if (error != DP_OK)
        return EXIT_USAGE;
    error = dp_router_new(&s->router);
    if (error == DP_OK)
        error = disk_register(s->disk, s->router);
    if (error != DP_OK)
        app_error("can't start: %s", dp_strerror(error));
    return error == DP_OK ? EXIT_OK : EXIT_NETWORK;
}

int cmd_serve(int argc, char **argv)
{
    server s = {0};
    char **operands;
    int count;
    int code = app_options(&s.app, argc, argv, help, &operands, &count);
    if (code != EXIT_OK)
        return code < 0 ? EXIT_OK : code;
    if (count != 1) {
        fputs(help, stderr);
        return EXIT_USAGE;
    }
    s.folder = operands[0];
    s.app.lasting = true;
    s.find_again = (dp_timer){.fn = on_find_again, .user = &s};
    dp_peer_handler handler = {on_open, on_connection, on_disconnected, on_error, NULL, &s};
    code = open_folder(&s);
    if (code == EXIT_OK)
        code = app_start(&s.app);
    if (code == EXIT_OK && !s.app.way.named)
        code = home_open(&s.home, &s.app);
    if (code == EXIT_OK)
        code = app_peer(&s.app, &handler);
    if (code == EXIT_OK) {
        print_fingerprint(s.app.certificate);
        dp_loop_run(s.app.loop);
    } else {
        s.app.exit_code = code;
    }
    if (s.app.interrupted) /* being ended is how a server ends */
        s.app.exit_code = EXIT_OK;
    dp_timer_stop(&s.find_again);
    app_leave(&s.app);
    home_close(&s.home);
    code = app_finish(&s.app);
    dp_router_free(s.router);
    disk_close(s.disk);
    return code;
}
