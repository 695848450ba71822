"""arm64 packages without root: an isolated apt downloads, dpkg-deb unpacks. The host installs nothing."""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

from harness.emulation import sources
from harness.emulation.host import read_os_release, tool_environment
from harness.emulation.tools import WHERE, run_tool, tool_failed
from harness.errors import HostSetupError

APT_TIMEOUT_S = 1800.0  # chosen: about 100 MB over a slow line
_EXCLUDED_PATHS = ("doc", "man", "locale", "info", "lintian", "bash-completion", "zoneinfo/right")
_NETWORK_HINT = (
    "Check that this host reaches its Debian mirror (`apt-get update`) and that it carries arm64. "
    "What was downloaded is kept; the next try resumes."
)


def _quoted(path: Path) -> str:
    text = str(path)
    if '"' in text or "\n" in text:
        raise HostSetupError(f"the cache path {text!r} holds a quote, which apt can't take", where=WHERE)
    return f'"{text}"'


def write_apt_folder(folder: Path) -> dict[str, str]:
    """Set up an apt that lives in `folder` and return its environment.

    The host's own apt.conf.d (proxies), keys and mirror credentials still apply; its package state is
    neither read nor changed.
    """
    for part in ("etc/apt/sources.list.d", "etc/apt/preferences.d", "state/lists/partial", "dpkg"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    (folder / "cache/archives/partial").mkdir(parents=True, exist_ok=True)
    (folder / "dpkg/status").write_bytes(b"")
    text = sources.guest_sources(
        sources.read_host_entries(), distribution=read_os_release().get("ID", "debian")
    )
    (folder / "etc/apt/sources.list.d/guest.sources").write_text(text, encoding="utf-8")
    q = _quoted
    lines = [
        f"Dir {q(folder)};",
        f"Dir::Etc {q(folder / 'etc/apt')};",
        f"Dir::State {q(folder / 'state')};",
        f"Dir::State::status {q(folder / 'dpkg/status')};",
        f"Dir::Cache {q(folder / 'cache')};",
        'Dir::Etc::trusted "/etc/apt/trusted.gpg";',
        'Dir::Etc::trustedparts "/etc/apt/trusted.gpg.d";',
        f'APT::Architecture "{sources.ARCHITECTURE}";',
        f'APT::Architectures {{ "{sources.ARCHITECTURE}"; }};',
        'APT::Install-Recommends "false";',
        'APT::Sandbox::User "";',
        'APT::Keep-Downloaded-Packages "true";',
        'Acquire::Languages "none";',
        'Acquire::Retries "3";',
        'Debug::NoLocking "true";',
    ]
    for key, name in (("netrc", "auth.conf"), ("netrcparts", "auth.conf.d")):
        path = Path("/etc/apt") / name
        if os.access(path, os.R_OK):
            lines.append(f"Dir::Etc::{key} {q(path)};")
    (folder / "apt.conf").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return {"APT_CONFIG": str(folder / "apt.conf")}


def parse_status_line(line: str) -> float | None:
    """Return apt's progress from 0 to 1 out of one line of its status pipe, None if it holds none."""
    match = re.match(r"(?:dlstatus|pmstatus):[^:]*:([0-9.]+):", line)
    return min(float(match.group(1)) / 100.0, 1.0) if match else None


def _apt_get(argv: list[str], env: dict[str, str], progress: Callable[[float], None] | None) -> None:
    read_fd, write_fd = os.pipe()
    command = ["apt-get", "-q", "-y", "-o", f"APT::Status-Fd={write_fd}", *argv]
    with (
        open(read_fd, encoding="utf-8", errors="replace") as status,
        tempfile.TemporaryFile() as output,
    ):
        try:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**tool_environment(), **env},
                pass_fds=(write_fd,),
            )
        finally:
            os.close(write_fd)
        with process:
            try:
                for line in status:  # ends with apt
                    done = parse_status_line(line)
                    if progress is not None and done is not None:
                        progress(done)
                process.wait(timeout=APT_TIMEOUT_S)
            except BaseException:
                process.kill()
                raise
        output.seek(0)
        if process.returncode != 0:
            raise tool_failed(command, process.returncode, output.read(), _NETWORK_HINT)


def kernel_name(env: dict[str, str], package: str) -> str:
    """Return the package that the kernel's meta-package `package` depends on now."""
    text = run_tool(["apt-cache", "depends", package], timeout_s=60, env=env).decode()
    match = re.search(r"Depends:\s*(linux-image-\S+)", text)
    if match is None:
        raise HostSetupError(
            f"the apt sources offer no kernel: `apt-cache depends {package}` names none.",
            where=WHERE,
            next_step=_NETWORK_HINT,
        )
    return match.group(1)


def download(
    folder: Path, packages: Iterable[str], kernel_package: str, progress: Callable[[float], None]
) -> tuple[list[Path], Path]:
    """Download `packages` with all they depend on, and the kernel. Returns (their .deb files, the kernel's).

    What `folder` already holds isn't fetched again; an interrupted download resumes.
    """
    env = write_apt_folder(folder)
    _apt_get(["update"], env, None)
    kernel = kernel_name(env, kernel_package)
    # the simulated run gives names and versions of exactly what this set needs
    names = [*packages, kernel]
    simulated = run_tool(["apt-get", "-s", "-y", "install", *names], timeout_s=120, env=env).decode()
    wanted = re.findall(r"^Inst (\S+) \(([^\s)]+)", simulated, flags=re.MULTILINE)
    _apt_get(["--download-only", "install", *names], env, progress)
    archives = folder / "cache/archives"
    debs: dict[str, Path] = {}
    for name, version in wanted:
        found = sorted(archives.glob(f"{name}_{version.replace(':', '%3a')}_*.deb"))
        if not found:
            raise HostSetupError(f"apt did not leave {name} {version} in its cache", where=WHERE)
        debs[name] = found[0]
    kernel_deb = debs.pop(kernel)
    return [debs[name] for name in sorted(debs)], kernel_deb


def unpack(deb: Path, target: Path) -> None:
    """Unpack one package's files into `target`; links to folders there are kept (merged /usr)."""
    source = ["dpkg-deb", "--fsys-tarfile", str(deb)]
    excluded = [f"--exclude=./usr/share/{name}" for name in _EXCLUDED_PATHS]
    sink = ["tar", "-x", "-p", "--keep-directory-symlink", "--no-same-owner", *excluded]
    sink += ["-C", str(target), "-f", "-"]
    env = tool_environment()
    with subprocess.Popen(source, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env) as packer:
        done = subprocess.run(sink, stdin=packer.stdout, capture_output=True, env=env, check=False)
        if packer.stdout is not None:
            packer.stdout.close()
        complaint = packer.stderr.read() if packer.stderr is not None else b""
    if done.returncode != 0:
        raise tool_failed(sink, done.returncode, done.stderr)
    if packer.returncode != 0:
        raise tool_failed(source, packer.returncode, complaint)
