import pytest

from harness.emulation import sources
from harness.emulation.sources import Entry
from harness.errors import HostSetupError

DEBIAN_SOURCES = """\
Types: deb
# a comment within
URIs: http://deb.debian.org/debian
Suites: trixie trixie-updates
Components: main contrib
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb deb-src
URIs: http://deb.debian.org/debian-security
Suites: trixie-security
Components: main

Types: deb
URIs: https://off.example/debian
Suites: trixie
Components: main
Enabled: no
"""


@pytest.fixture(autouse=True)
def _no_override(monkeypatch):
    monkeypatch.delenv(sources.ENV_MIRROR, raising=False)


def _guest(entries, distribution="debian", mirror=None):
    return sources.guest_sources(entries, distribution=distribution, mirror=mirror)


def test_deb822_entries():
    entries = sources.parse_deb822(DEBIAN_SOURCES)
    assert [(e.uri, e.suite) for e in entries] == [
        ("http://deb.debian.org/debian", "trixie"),
        ("http://deb.debian.org/debian", "trixie-updates"),
        ("http://deb.debian.org/debian-security", "trixie-security"),
    ]
    assert entries[0].components == ("main", "contrib")
    assert dict(entries[0].options)["signed-by"].endswith("debian-archive-keyring.gpg")
    assert entries[2].options == ()


def test_one_line_entries():
    text = (
        "# deb http://commented.example/debian bookworm main\n"
        "deb [arch=amd64 signed-by=/k.gpg] https://mirror.example/debian bookworm main non-free # tail\n"
        "deb-src http://deb.debian.org/debian bookworm main\n"
        "deb cdrom:[Debian]/ bookworm main\n"
        "deb http://flat.example ./\n"
    )
    entries = sources.parse_one_line(text)
    assert entries[0] == Entry(
        "https://mirror.example/debian",
        "bookworm",
        ("main", "non-free"),
        (("arch", "amd64"), ("signed-by", "/k.gpg")),
    )
    assert all(e.uri != "http://deb.debian.org/debian" for e in entries)


def test_the_guest_gets_the_hosts_mirrors_but_one_fixed_suite_and_architecture():
    text = _guest(sources.parse_deb822(DEBIAN_SOURCES))
    assert "Suites: bookworm bookworm-updates" in text
    assert "Suites: bookworm-security" in text
    assert text.count("Architectures: arm64") == 2
    assert "trixie" not in text


def test_third_party_archives_are_not_taken_for_debian():
    entries = [
        Entry("https://dl.google.com/linux/chrome/deb/", "stable", ("main",)),
        Entry("https://p.example/runner/debian/", "bookworm", ("main",), (("signed-by", "/x.gpg"),)),
        Entry("https://download.docker.com/linux/debian", "bookworm", ("stable",)),
        Entry("https://ftp.example.org/debian", "bookworm", ("main",)),
        Entry("http://ftp.de.debian.org/debian", "bookworm", ("main",)),
    ]
    main, security = sources.debian_mirrors(entries)
    assert main is not None
    assert main.uri == "http://ftp.de.debian.org/debian"
    assert security is None
    assert sources.debian_mirrors(entries[:3]) == (None, None)
    assert sources.debian_mirrors(entries[:4])[0] == entries[3]


def test_a_debian_host_without_a_debian_archive_is_told_so():
    with pytest.raises(HostSetupError, match=r"no Debian archive .*arm64.*Add one, or set"):
        _guest([Entry("cdrom:[Debian]/", "bookworm", ("main",))])


def test_an_ubuntu_host_builds_the_same_guest_from_debians_own_mirror():
    entries = [Entry("http://archive.ubuntu.com/ubuntu", "noble", ("main",))]
    text = _guest(entries, distribution="ubuntu")
    assert "URIs: http://deb.debian.org/debian\n" in text
    assert f"Signed-By: {sources.KEYRING}" in text
    assert "ubuntu" not in text


def test_another_mirror_can_be_named(monkeypatch):
    assert "URIs: http://m.example/debian\n" in _guest([], mirror="http://m.example/")
    monkeypatch.setenv(sources.ENV_MIRROR, "http://e.example")
    assert "URIs: http://e.example/debian-security\n" in _guest([])


def test_sources_are_read_from_both_styles(tmp_path):
    (tmp_path / "sources.list.d").mkdir()
    (tmp_path / "sources.list").write_text("deb http://one.example/debian bookworm main\n")
    (tmp_path / "sources.list.d/two.sources").write_text(DEBIAN_SOURCES)
    uris = {e.uri for e in sources.read_host_entries(tmp_path)}
    assert {"http://one.example/debian", "http://deb.debian.org/debian"} <= uris
    assert sources.read_host_entries(tmp_path / "absent") == []
