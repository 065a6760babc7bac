/* The sessions of session.c with eight times as much data: for what happens only while much is under way. Slow. */
#define SCALE 8u
#include "session.c"
