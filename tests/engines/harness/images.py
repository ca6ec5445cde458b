# SPDX-License-Identifier: Apache-2.0
"""The images that the engines load: made here, because no registry is needed nor asked.

    python -m harness.images DIRECTORY      make what is missing

`busybox` has a static busybox with all its applets, and the probe of tests/payload as /probe.
`debian` is a minimal Debian with a web server and a database, for what users do.
`pause` is what Kubernetes keeps a pod's namespaces with.

Each as an OCI archive (`NAME.oci.tar`: podman, buildah, ctr) and as a docker archive (`NAME.docker.tar`), and as a
directory (`NAME/`) for who wants a plain rootfs.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
TAG = "latest"
PAUSE = "/probe seq on-signal 15 0 -- on-signal 2 0 -- sleep"  # as Kubernetes' pause, it ends when it is told to
COMMANDS = {"busybox": ["/bin/sh"], "debian": ["/bin/sh"], "pause": PAUSE.split()}
NAMES = tuple(COMMANDS)
DEBIAN_PACKAGES = "nginx-light,redis-server"
LAYER = "application/vnd.oci.image.layer.v1.tar"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"


def make(directory: Path, probe: Path, names: Iterable[str] = NAMES) -> None:
    """Make the images that are not in *directory*; what is there is complete."""
    directory.mkdir(parents=True, exist_ok=True)
    for name in names:
        if (directory / f"{name}.oci.tar").exists():
            continue
        with tempfile.TemporaryDirectory(dir=directory) as scratch:
            rootfs = Path(scratch) / name
            ROOTFS[name](rootfs, probe, directory.parent)
            layer = _pack(rootfs)
            config = _describe(name, layer)
            _write_docker(Path(scratch) / "docker.tar", name, layer, config)
            _write_oci(Path(scratch) / "oci.tar", name, layer, config)
            shutil.rmtree(directory / name, ignore_errors=True)
            rootfs.rename(directory / name)
            (Path(scratch) / "docker.tar").rename(directory / f"{name}.docker.tar")
            (Path(scratch) / "oci.tar").rename(directory / f"{name}.oci.tar")  # the last: its presence says complete


# ---- root file systems ----------------------------------------------------------------------------------


def _make_skeleton(rootfs: Path) -> None:
    for name in ("bin", "dev", "etc", "home", "lib", "proc", "root", "run", "sys", "tmp", "usr/bin", "usr/sbin", "var"):
        (rootfs / name).mkdir(parents=True)
    (rootfs / "tmp").chmod(0o1777)
    (rootfs / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000:user:/home:/bin/sh\n")
    (rootfs / "etc/group").write_text("root:x:0:\nuser:x:1000:\nmore:x:1001:user\n")


def _make_busybox(rootfs: Path, probe: Path, cache: Path) -> None:
    _make_skeleton(rootfs)
    busybox = shutil.which("busybox")
    assert busybox, "busybox-static is not installed"
    shutil.copy(busybox, rootfs / "bin/busybox")
    applets = subprocess.run([busybox, "--list"], check=True, capture_output=True, text=True).stdout.split()
    for applet in applets:
        if applet != "busybox":
            (rootfs / "bin" / applet).symlink_to("busybox")
    shutil.copy(probe, rootfs / "probe")


def _make_pause(rootfs: Path, probe: Path, cache: Path) -> None:
    _make_skeleton(rootfs)
    shutil.copy(probe, rootfs / "probe")


def _make_debian(rootfs: Path, probe: Path, cache: Path) -> None:
    release = dict(line.split("=", 1) for line in Path("/etc/os-release").read_text().splitlines() if "=" in line)
    suite = release.get("VERSION_CODENAME", "stable").strip('"') if release.get("ID") == "debian" else "stable"
    # It takes minutes and the network, and is the same whatever else changes.
    kept = cache / f"debian-{suite}-{DEBIAN_PACKAGES}.tar"
    if not kept.exists():
        words = ["debootstrap", "--variant=minbase", f"--include={DEBIAN_PACKAGES}", suite, str(rootfs)]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"{' '.join(words)}: {done.stdout[-2000:]}{done.stderr[-2000:]}")
        for waste in ("var/cache/apt/archives", "var/lib/apt/lists", "usr/share/doc", "usr/share/locale", "usr/share/man"):
            shutil.rmtree(rootfs / waste, ignore_errors=True)
        subprocess.run(["tar", "-C", rootfs, "--numeric-owner", "-cf", f"{kept}.{os.getpid()}", "."], check=True)
        os.rename(f"{kept}.{os.getpid()}", kept)
    else:
        rootfs.mkdir()
        subprocess.run(["tar", "-C", rootfs, "--numeric-owner", "-xpf", kept], check=True)
    shutil.copy(probe, rootfs / "probe")


ROOTFS = {"busybox": _make_busybox, "debian": _make_debian, "pause": _make_pause}


# ---- archives -------------------------------------------------------------------------------------------


def _pack(rootfs: Path) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as tar:
        tar.add(rootfs, arcname=".")
    return packed.getvalue()


def _describe(name: str, layer: bytes) -> bytes:
    return json.dumps(
        {
            "architecture": {"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine, os.uname().machine),
            "os": "linux",
            "config": {"Env": [PATH], "Cmd": COMMANDS[name]},
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}"]},
            "history": [{"created_by": "tests/engines"}],
        }
    ).encode()


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    tar.addfile(info, io.BytesIO(data))


def _write_docker(path: Path, name: str, layer: bytes, config: bytes) -> None:
    config_name = f"{hashlib.sha256(config).hexdigest()}.json"
    index = [{"Config": config_name, "RepoTags": [f"{name}:{TAG}"], "Layers": ["layer.tar"]}]
    with tarfile.open(path, "w") as tar:
        _add(tar, "layer.tar", layer)
        _add(tar, config_name, config)
        _add(tar, "manifest.json", json.dumps(index).encode())


def _write_oci(path: Path, name: str, layer: bytes, config: bytes) -> None:
    def descriptor(kind: str, data: bytes) -> dict[str, Any]:
        return {"mediaType": kind, "digest": f"sha256:{hashlib.sha256(data).hexdigest()}", "size": len(data)}

    manifest = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": descriptor(CONFIG, config),
            "layers": [descriptor(LAYER, layer)],
        }
    ).encode()
    names = {
        "org.opencontainers.image.ref.name": TAG,
        "io.containerd.image.name": f"docker.io/library/{name}:{TAG}",
    }
    index = {"schemaVersion": 2, "manifests": [{**descriptor(MANIFEST, manifest), "annotations": names}]}
    with tarfile.open(path, "w") as tar:
        _add(tar, "oci-layout", b'{"imageLayoutVersion": "1.0.0"}')
        _add(tar, "index.json", json.dumps(index).encode())
        for blob in (manifest, config, layer):
            _add(tar, f"blobs/sha256/{hashlib.sha256(blob).hexdigest()}", blob)


if __name__ == "__main__":
    make(Path(sys.argv[1]), Path(sys.argv[2]))
