//! What the packages hold, without installing them.

use std::collections::BTreeSet;
use std::path::Path;

use super::booted::{shell, succeed, text};
use super::built::{cannot_be_built, packages};

/// Runs a line of shell on `$FILE`, which must succeed: what it prints.
fn of(file: &Path, line: &str) -> String {
    succeed(&format!("FILE='{}'; {line}", file.display()))
}

#[test]
fn lintian_finds_nothing_in_the_package() {
    if cannot_be_built() {
        return;
    }
    let deb = packages().deb;
    let found = shell(&format!(
        "cd {} && lintian --fail-on error,warning --allow-root {}",
        deb.parent().expect("a folder").display(),
        deb.file_name().expect("a name").display()
    ));
    assert!(found.status.success(), "{}{}", text(&found.stdout), text(&found.stderr));
    // Each override is used, and stands below its explanation.
    let overrides = include_str!("../../packaging/debian/lintian-overrides");
    let mut before = "";
    for line in overrides.lines() {
        assert!(line.starts_with('#') || before.starts_with('#'), "{line} is not explained");
        before = line;
    }
    assert!(!text(&found.stdout).contains("unused-override"), "{}", text(&found.stdout));
}

#[test]
fn two_builds_give_the_same_package() {
    if cannot_be_built() {
        return;
    }
    let packages = packages();
    let bytes = |path: &Path| std::fs::read(path).expect("a package");
    assert!(bytes(&packages.deb) == bytes(&packages.again), "they differ: diffoscope tells where");
}

#[test]
fn the_rpm_has_the_same_files() {
    if cannot_be_built() {
        return;
    }
    let packages = packages();
    let deb: BTreeSet<String> = of(&packages.deb, "dpkg-deb --fsys-tarfile $FILE | tar --list --verbose")
        .lines()
        .filter(|line| !line.starts_with('d'))
        // Mode, owner, size, date, time, name.
        .filter_map(|line| Some((line.split_whitespace().next()?, line.split_whitespace().nth(5)?)))
        .map(|(mode, name)| format!("{mode} {}", name.trim_start_matches('.')))
        // What is Debian's alone.
        .filter(|file| !file.contains("/lintian/") && !file.contains("changelog.Debian"))
        .map(|file| file.replace("/zsh/vendor-completions/", "/zsh/site-functions/"))
        .collect();
    let rpm =
        of(&packages.rpm, "rpm --query --package --queryformat '[%{FILEMODES:perms} %{FILENAMES}\\n]' $FILE");
    let rpm: BTreeSet<String> = rpm.lines().map(str::to_owned).collect();
    assert_eq!(rpm, deb);
    assert!(rpm.contains("-rwxr-xr-x /usr/bin/pigeonhubd"), "{rpm:?}");
    let conffiles = of(&packages.deb, "dpkg-deb --info $FILE conffiles | sort");
    assert_eq!(of(&packages.rpm, "rpm --query --package --configfiles $FILE | sort"), conffiles);
}

#[test]
fn what_others_read_they_understand() {
    if cannot_be_built() {
        return;
    }
    let repository = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
    // In tenths. systemd-analyze fails where it finds more.
    succeed(&format!(
        "cd {repository}/packaging && systemd-analyze security --offline=true --threshold=10 pigeonhubd@.service"
    ));
    succeed(&format!(
        "apparmor_parser --skip-kernel-load --skip-cache --base /etc/apparmor.d \
         {repository}/packaging/apparmor/usr.bin.pigeonhubd"
    ));
    for shell in ["bash -n", "sh -n"] {
        succeed(&format!("cd {repository}/packaging && for file in debian/p* rpm/*; do {shell} $file; done"));
    }
    let completions = of(
        &packages().deb,
        "dpkg-deb --fsys-tarfile $FILE | tar --extract --to-stdout --wildcards \
         './usr/share/bash-completion/completions/*'",
    );
    for word in ["--bootstrap", "topology", "complete -F _pigeonhubd", "complete -F _pigeonctl"] {
        assert!(completions.contains(word), "{word}");
    }
}
