#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Make the example bundles runnable: build the root filesystem that git does not hold.

    mkrootfs.py BUNDLE [DEST]     copy the bundle BUNDLE to DEST and build DEST/rootfs;
                                  without DEST the rootfs is built beside BUNDLE's config.json
    mkrootfs.py --all DIR         every bundle, each into DIR/NAME
    --busybox                     put Debian's static busybox into the rootfs as well

The rootfs holds one program, `/probe`, the static test payload of `tests/payload`, so that an
example needs nothing but a C compiler.  A config.json may say `@BUNDLE@` where a program or file of
the bundle must be named by an absolute path on the host (hooks); such a bundle has to be copied,
because the path differs from machine to machine.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
PLACEHOLDER = "@BUNDLE@"
DIRECTORIES = ("proc", "sys", "dev", "tmp", "run", "etc", "root")
PASSWD = "root:x:0:0:root:/root:/probe\nuser:x:1000:1000:user:/home/user:/probe\n"
GROUP = "root:x:0:\nuser:x:1000:\n"
BUSYBOX = ("/bin/busybox", "/usr/bin/busybox")


def names() -> list[str]:
    """Return the names of the bundles, sorted."""
    return sorted(path.parent.name for path in HERE.glob("*/config.json"))


def probe() -> Path:
    """Build the payload where needed and return its path."""
    script = HERE.parent / "tests" / "payload" / "build.py"
    done = subprocess.run([sys.executable, str(script)], check=True, stdout=subprocess.PIPE)
    return Path(done.stdout.decode().strip())


def make_rootfs(rootfs: Path, *, busybox: bool = False) -> Path:
    """Fill the directory `rootfs` (made when missing) and return it; may be repeated."""
    for name in DIRECTORIES:
        (rootfs / name).mkdir(parents=True, exist_ok=True)
    rootfs.chmod(0o755)
    (rootfs / "tmp").chmod(0o1777)
    (rootfs / "etc/passwd").write_text(PASSWD)
    (rootfs / "etc/group").write_text(GROUP)
    # A copy, not a link: a container that may write to its rootfs must not change the original.
    shutil.copy2(probe(), rootfs / "probe")
    if busybox:
        _install_busybox(rootfs)
    return rootfs


def _install_busybox(rootfs: Path) -> None:
    source = next((path for path in BUSYBOX if os.path.exists(path)), None)
    if source is None:
        raise SystemExit("mkrootfs: no busybox here; on Debian: apt-get install busybox-static")
    (rootfs / "bin").mkdir(exist_ok=True)
    shutil.copy2(source, rootfs / "bin/busybox")
    listing = subprocess.run([source, "--list"], check=True, stdout=subprocess.PIPE)
    for applet in listing.stdout.decode().split():
        link = rootfs / "bin" / applet
        if applet != "busybox" and not link.is_symlink():
            link.symlink_to("busybox")


def prepare(name: str, dest: Path | None = None, *, busybox: bool = False) -> Path:
    """Make the bundle `name` runnable and return its directory: `dest`, or the bundle itself."""
    source = HERE / name
    text = (source / "config.json").read_text()
    if dest is None:
        if PLACEHOLDER in text:
            raise SystemExit(
                f"mkrootfs: {name} names files of the bundle; give it a place to be copied to"
            )
        dest = source
    else:
        dest = dest.resolve()
        shutil.copytree(
            source, dest, ignore=shutil.ignore_patterns("rootfs"), symlinks=True, dirs_exist_ok=True
        )
        quoted = json.dumps(str(dest))[1:-1]
        (dest / "config.json").write_text(text.replace(PLACEHOLDER, quoted))
    make_rootfs(dest / "rootfs", busybox=busybox)
    return dest


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(description="build the rootfs of an example bundle")
    parser.add_argument("bundle", nargs="?", help=f"one of: {', '.join(names())}")
    parser.add_argument("dest", nargs="?", type=Path, help="where to copy the bundle to")
    parser.add_argument("--all", type=Path, metavar="DIR", help="copy every bundle below DIR")
    parser.add_argument("--busybox", action="store_true", help="add the static busybox")
    arguments = parser.parse_args(argv)
    if arguments.all is not None:
        for name in names():
            print(prepare(name, arguments.all / name, busybox=arguments.busybox))
        return 0
    if arguments.bundle is None:
        parser.error("name a bundle, or use --all")
    print(prepare(Path(arguments.bundle).name, arguments.dest, busybox=arguments.busybox))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
