/* The PeerServer and the page of 'datapeer serve', if no other PeerServer is named: who has the device has all. */
#ifndef APPS_HOME_H
#define APPS_HOME_H

#include "page.h"
#include "peer_server.h"

typedef struct home {
    app *app; /* NULL: not opened */
    peer_server peer_server;
    page *page;         /* NULL: there is none */
    char url[64 + 256]; /* by which we are our own client */
} home;

/* These give EXIT_OK, or print what is wrong and give another code. */

/* The app was started; its server becomes this one, which only this machine reaches for now. */
int home_open(home *h, app *a);
/* The id is ours, so that nobody can take it first: lets others in and prints the addresses of the page. Again, or without
 * home_open: nothing. */
int home_answer(home *h, const char *id);
/* Tells the clients goodbye, and ends it; the app has left it already. */
void home_close(home *h);

#endif
