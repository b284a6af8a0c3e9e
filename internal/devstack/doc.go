// Package devstack runs the two services Postrider needs, a Postgres and a
// Temporal server, as private child processes: for `postrider dev` and for
// tests. Nothing has to be installed or running before, and nothing is left
// running after.
//
//  1. Every server runs under a watchdog, a few lines of /bin/sh in a process
//     group of its own. The watchdog holds the read end of a pipe (the leash)
//     whose write end only the starting process holds. When that end closes,
//     because of Stop or because the process was killed in any way, the watchdog
//     ends its server. No re-execution of the binary is needed, so it works from
//     any test binary.
//  2. A server's directory is locked (flock) by the server itself: the lock is
//     inherited by all of its processes and ends with the last of them. So two
//     stacks never share a directory, and whatever a crash left behind is known
//     to be stale once the lock is ours.
//  3. Postgres refuses to run as root. Started as root, it runs as the user
//     postgres, or nobody, and owns its directory. Where that user may not
//     enter the parents of the directory (it lies beneath /root, say), it gets
//     the directory as an open file instead of a path.
//  4. Ports are bound on 127.0.0.1 only. A port of 0 is a free one, and is chosen
//     again if another process takes it in between.
//
// It runs on Linux and macOS and imports nothing from this module.
package devstack
