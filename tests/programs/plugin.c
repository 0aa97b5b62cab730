/* A library that a program loads while it runs. */
extern long part(long);
static long seen;

long plug(long a) { return part(a) + ++seen; }
