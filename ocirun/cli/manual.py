# SPDX-License-Identifier: Apache-2.0
"""What `--help` and the manual pages say of each command beyond the phrases of the table.

Paragraphs are separated by empty lines; one that is indented is an example.  Words in backquotes are what one types.
"""

from __future__ import annotations

DESCRIPTIONS = {
    "": """\
ocirun runs containers as the Open Container Initiative's runtime specification describes them: it takes a
bundle, which is a directory with a config.json and a root file system, and makes a container of it. Engines
such as podman, docker and containerd call it in the place of runc or crun; the options are theirs, and so are
the words of errors that they look for.

Before anything is done, config.json is checked as a whole, and every problem is named with its place in the
file. `ocirun validate` does only that, and `ocirun plan` shows what would be done.

Options may be written with one dash or with two, before and after the arguments, with the value in the next
word or behind "="; a switch takes "=false" as well.""",
    "create": """\
Makes a container from a bundle: namespaces, cgroup, mounts and all else that config.json says. Its process
exists afterwards but does not run the program yet, which `ocirun start` lets it do. Standard input, output and
error are the container's.

If config.json asks for a terminal, --console-socket names a listening unix socket to which the main side of it
is sent.

Whatever fails, nothing is left of the container, and the error names the place in config.json, the call and its
errno.

    ocirun create --bundle /srv/web --pid-file /run/web.pid web1""",
    "start": """\
Lets the process of a container that was created execute its program, and returns when it does. If the program
cannot be executed, that is the error of this command.""",
    "state": """\
Prints the state of a container as a JSON object: its status (creating, created, running, paused or stopped),
the pid of its process, 0 once that has ended, and the bundle. The status is asked from the kernel each time.""",
    "kill": """\
Sends a signal to the process of a container; the signal is a number or a name, with or without SIG. KILL
reaches every process of a container that has no pid namespace of its own.

    ocirun kill web1 HUP""",
    "delete": """\
Removes what `create` made: the cgroup, the state, and what is left of processes; then the poststop hooks run. A
container that runs is only deleted with --force. What an interrupted `create` left behind is removed as well.""",
    "run": """\
Creates a container, starts it, and deletes it when its process has ended. The exit status is that of the
process, or 128 and the number of the signal that ended it. Signals are passed on. If config.json asks for a
terminal, it is connected to the one that ocirun runs in, or to --console-socket.

With --detach the command returns when the process runs; the container is to be deleted by hand.

    ocirun run --bundle /srv/job job1""",
    "exec": """\
Executes one more process in a container, with the namespaces, cgroup, capabilities and seccomp filter that the
container was created with. What is to be executed stands behind the ID, or in a file like the object process of
config.json.

The exit status is that of the process, 128 and the number of the signal that ended it, or 255 where it could
not be executed.

    ocirun exec --tty --env TERM=xterm web1 sh""",
    "list": """\
Lists the containers of the state root with their pids, statuses and bundles. One whose state cannot be read is
listed as unknown, and does not hide the others.""",
    "spec": """\
Writes a config.json to begin with, which runs a shell from the directory rootfs. A file that is there is never
overwritten.""",
    "validate": """\
Checks a bundle and changes nothing. Each problem is printed on a line that begins with its place in
config.json, a JSON pointer. The exit status is 1 if there are any.""",
    "plan": """\
Prints, one line for each operation, what `create` would do with a bundle on this host, and where in config.json
each operation comes from. Nothing is done, and no privilege is needed.""",
    "update": """\
Changes limits of a container that has not stopped; those that are not named stay as they are. All of them are
changed, or none.

    ocirun update --memory 512m --pids-limit 200 web1""",
    "mounts": """\
Adds mounts to a container that has not stopped, or removes what was added. FILE has a JSON array of objects
like those of mounts in config.json, or is - for standard input. All are added, or none; for remove only their
destinations count.

Sources are paths of the host, destinations are resolved inside the container's root and made where they are
missing. Possible are binds and new file systems, but for proc, sysfs, mqueue and cgroup. What the host mounts
in a source later appears in the container unless an option is against it; what the container mounts stays in
it. Only what was added is removed again.

    echo '[{"destination": "/data", "source": "/srv", "options": ["rbind"]}]' | ocirun mounts add web1 -""",
    "wait": """\
Waits until the process of a container has ended, and prints its exit status, or 128 and the number of the
signal that ended it. It need not be a child of whoever asks: from Linux 6.15 on the kernel tells everybody.
Where the status cannot be known, that is an error.""",
    "pause": """\
Freezes all processes of a container, until `ocirun resume`. Needs a cgroup.""",
    "resume": """\
Lets the processes of a paused container go on.""",
    "ps": """\
Lists the processes of a container as ps(1) does, whose options may follow the ID, or as a JSON array of their
pids.""",
    "events": """\
Prints statistics of a container at an interval, and whenever memory ran out, each as a JSON object on a line of
its own, until the container ends. With --stats it prints statistics once.""",
    "features": """\
Prints what this version supports as the JSON document that the specification describes. With --probe it also
says which of it the host at hand can do, and why not.""",
    "checkpoint": """\
Saves the processes of a container into a directory by means of CRIU, from which `ocirun restore` makes them
again, and ends them unless --leave-running is given.""",
    "restore": """\
Makes a container again from the images that `ocirun checkpoint` has saved, with its processes as they were, by
means of CRIU.""",
    "setup": """\
Prints the settings that make an engine (podman, docker, containerd or crio) use ocirun; with --write it puts
them into the engine's configuration and keeps a copy of what was there.""",
    "gc": """\
Removes what interrupted commands have left: containers whose creator died before they were created, and
directories that were being removed. Prints the IDs.""",
    "completion": """\
Prints a script that lets a shell complete commands, options and the IDs of containers.

    ocirun completion bash > /etc/bash_completion.d/ocirun""",
    "help": """\
Prints the help of a command, or of the program.""",
}

#: Sections of the program's own page.
SECTIONS = {
    "EXIT STATUS": """\
0 on success and 1 after an error. `run`, and `exec` without --detach, end as their process did; what `exec`
cannot execute is 255. A command that a signal ends has the status 128 and the number of the signal.""",
    "ENVIRONMENT": """\
XDG_RUNTIME_DIR names the directory below which the state root of an ordinary user is. NOTIFY_SOCKET and
LISTEN_FDS are passed on as sd_notify(3) and sd_listen_fds(3) describe.""",
    "FILES": """\
/run/ocirun is the state root: a directory for each container, with its record. $XDG_RUNTIME_DIR/ocirun is an
ordinary user's.""",
}


def paragraphs(text: str) -> list[tuple[bool, str]]:
    """Return each paragraph of a text as (is an example, words)."""
    found = []
    for part in text.split("\n\n"):
        is_example = part.startswith("    ")
        found.append((is_example, part.strip() if is_example else " ".join(part.split())))
    return found
