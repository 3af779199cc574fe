/* The first process of a pod: it holds the namespaces, reaps what is orphaned, and ends when told to. */
#include <signal.h>
#include <unistd.h>

static void end(int number) { _exit(number == SIGTERM ? 0 : 1); }

int main(void) {
  signal(SIGCHLD, SIG_IGN);
  signal(SIGTERM, end);
  signal(SIGINT, end);
  for (;;) pause();
}
