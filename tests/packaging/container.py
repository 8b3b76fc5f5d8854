"""Runs annulus in a container of its own, as Docker would run the image of dist/Dockerfile.

usage: container.py PROFILE ANNULUS -c CONFIG

Nothing but the program is in the container; it runs as the Dockerfile's user, without capabilities,
under the seccomp profile, which has Docker's form. Its network is the machine's.
"""

import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

DOCKERFILE = Path(__file__).resolve().parents[2] / "dist" / "Dockerfile"
ARCHITECTURE = {"x86_64": ("amd64", "SCMP_ARCH_X86_64"), "aarch64": ("arm64", "SCMP_ARCH_AARCH64")}


def last_stage():
    """The instructions after the last FROM, which must be of nothing."""
    text = DOCKERFILE.read_text(encoding="utf-8").replace("\\\n", " ")
    instructions = [line.split(None, 1) for line in text.splitlines() if line and line[0] != "#"]
    start = max(at for at, (name, _) in enumerate(instructions) if name == "FROM")
    if instructions[start][1] != "scratch":
        sys.exit(f"the image is not from scratch: {instructions[start]}")
    return instructions[start + 1 :]


def for_runtime(profile):
    """A profile of Docker's form in that of a runtime: without what is for other machines or for
    capabilities that the container does not have."""
    machine, main = ARCHITECTURE[platform.machine()]

    def applies(rule):
        only, never = rule.get("includes") or {}, rule.get("excludes") or {}
        here = machine in only.get("arches", [machine]) and machine not in never.get("arches", [])
        return here and not only.get("caps")

    kept = ("names", "action", "errnoRet", "args")
    rules = [
        {key: rule[key] for key in kept if rule.get(key) is not None}
        for rule in profile["syscalls"]
        if applies(rule)
    ]
    default = {key: profile[key] for key in ("defaultAction", "defaultErrnoRet") if key in profile}
    return default | {"architectures": [main], "syscalls": rules}


def bundle(directory, profile, program, arguments):
    root = directory / "rootfs"
    root.mkdir()
    user, entry, environment, volumes = None, None, [], []
    for name, value in last_stage():
        if name == "COPY" and "/annulus.static" in value.split():
            # What the first stage has built is the program under test.
            target = value.split()[-1]
            shutil.copy2(program, root / target.lstrip("/"))
        elif name == "COPY":
            # The other is an empty directory.
            target = root / value.split()[-1].lstrip("/")
            target.mkdir(parents=True)
            owner = next(it for it in value.split() if it.startswith("--chown="))
            os.chown(target, *(int(number) for number in owner[len("--chown=") :].split(":")))
        elif name == "ENV":
            environment.append(value)
        elif name == "VOLUME":
            volumes.append(value)
        elif name == "USER":
            user = [int(number) for number in value.split(":")]
        elif name == "ENTRYPOINT":
            entry = json.loads(value)
    config = arguments[-1]
    mounts = [
        {"destination": "/proc", "type": "proc", "source": "proc"},
        {"destination": config, "type": "bind", "source": config, "options": ["rbind", "ro"]},
    ]
    # A volume without a name is a copy of the image's directory; the rest is read-only.
    for volume in volumes:
        source = str(root / volume.lstrip("/"))
        mount = {"destination": volume, "type": "bind", "source": source, "options": ["rbind"]}
        mounts.append(mount)
    process = {
        "args": entry + arguments,
        "env": environment,
        "cwd": "/",
        "user": {"uid": user[0], "gid": user[1]},
        "noNewPrivileges": True,
    }
    linux = {
        "namespaces": [{"type": "mount"}, {"type": "pid"}],
        "seccomp": for_runtime(profile),
    }
    spec = {
        "ociVersion": "1.0.2",
        "process": process,
        "root": {"path": "rootfs", "readonly": True},
        "mounts": mounts,
        "linux": linux,
    }
    (directory / "config.json").write_text(json.dumps(spec), encoding="utf-8")


def main(profile, program, *arguments):
    with tempfile.TemporaryDirectory(prefix="annulus-container.") as scratch:
        directory = Path(scratch)
        with open(profile, encoding="utf-8") as file:
            bundle(directory, json.load(file), program, list(arguments))
        # It ends with this program, however that ends.
        command = ["setpriv", "--pdeathsig", "TERM", "runc", "--root", scratch + "/state"]
        command += ["run", "--bundle", scratch, f"annulus-{os.getpid()}"]
        with subprocess.Popen(command) as runtime:
            signal.signal(signal.SIGTERM, lambda *_: runtime.terminate())
            return runtime.wait()


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
