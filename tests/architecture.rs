//! Who may import whom, and other things about the tree that are easily forgotten.

#![expect(clippy::unwrap_used, reason = "a test that cannot read the tree has failed")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// The parts of the tree and what each may use of the others. What is not here is the house, which may use all.
const MAY_USE: &[(&str, &[&str])] = &[
    ("error", &[]),
    ("refusal", &[]),
    ("clock", &[]),
    ("runtime", &["clock", "error"]),
    ("role", &[]),
    ("id", &["clock"]),
    ("geo", &["clock"]),
    ("bus", BASE),
    ("push", &["id", "clock", "refusal", "error", "runtime", "bus"]),
    ("identity", &["id", "clock", "refusal", "geo", "error", "runtime", "bus"]),
    ("trust", &["id", "clock", "refusal", "geo", "error", "runtime", "bus"]),
    ("tracking", &["id", "clock", "refusal", "geo", "error", "runtime", "bus", "trust"]),
    ("alerts", &["id", "clock", "refusal", "geo", "error", "runtime", "bus", "trust", "tracking"]),
    ("services", &["id", "clock", "error", "bus", "push", "identity", "trust", "tracking", "alerts"]),
    (
        "usecases",
        &[
            "id", "clock", "geo", "error", "runtime", "bus", "push", "identity", "trust", "tracking",
            "alerts", "services",
        ],
    ),
    (
        "problem",
        &["role", "geo", "error", "refusal", "push", "identity", "trust", "tracking", "alerts", "usecases"],
    ),
    ("store", &["id", "clock", "geo", "error", "push", "identity", "trust", "tracking", "alerts"]),
    ("journal", &["id", "clock", "geo", "error", "runtime", "tracking"]),
    // The document of the stream is served over REST.
    ("http", HTTP),
    ("stream", DOOR),
    ("client", &["clock"]),
];
const BASE: &[&str] = &["id", "clock", "geo", "error", "runtime"];
const HTTP: &[&str] = &[
    "id", "clock", "geo", "error", "runtime", "bus", "push", "identity", "trust", "tracking", "alerts",
    "services", "usecases", "refusal", "problem", "role", "stream",
];
const DOOR: &[&str] = &[
    "id", "clock", "geo", "error", "runtime", "bus", "push", "identity", "trust", "tracking", "alerts",
    "services", "usecases", "refusal", "problem", "role",
];

/// Libraries that only some parts may use.
const ONLY_IN: &[(&str, &[&str])] = &[
    ("sqlx", &["store"]),
    ("redis", &["bus"]),
    ("axum", &["http", "stream", "app", "demo"]),
    ("utoipa_axum", &["http"]),
    ("jsonwebtoken", &["identity", "push"]),
    ("argon2", &["identity"]),
    ("reqwest", &["client", "cli", "push"]),
    ("lettre", &["push"]),
    ("tokio_tungstenite", &["client"]),
    ("anyhow", &["app", "cli", "client", "demo", "doctor", "main"]),
];

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
}

/// Every source file with the part it belongs to and its text without tests.
fn files() -> Vec<(String, PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    sources(&root, &mut found);
    let read = |path: PathBuf| {
        let part = path.strip_prefix(&root).unwrap().iter().next().unwrap().to_str().unwrap();
        let part = part.trim_end_matches(".rs").to_owned();
        let text = fs::read_to_string(&path).unwrap();
        let text = text.split("#[cfg(test)]").next().unwrap().to_owned();
        (part, path, text)
    };
    found.into_iter().map(read).collect()
}

fn code_lines(text: &str) -> impl Iterator<Item = &str> {
    text.lines().map(str::trim).filter(|line| !line.starts_with("//"))
}

#[test]
fn each_part_uses_only_what_it_may() {
    let rules: BTreeMap<&str, &[&str]> = MAY_USE.iter().copied().collect();
    let mut broken = Vec::new();
    for (part, path, text) in files() {
        let Some(may) = rules.get(part.as_str()) else { continue };
        for line in code_lines(&text) {
            for used in line.split("crate::").skip(1) {
                let used: String = used.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
                if !used.is_empty() && used != part && !may.contains(&used.as_str()) {
                    broken.push(format!("{}: {part} uses {used}", path.display()));
                }
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}

#[test]
fn libraries_stay_where_they_belong() {
    let mut broken = Vec::new();
    for (part, path, text) in files() {
        for (library, parts) in ONLY_IN {
            let used = code_lines(&text).any(|line| line.contains(&format!("{library}::")));
            if used && !parts.contains(&part.as_str()) {
                broken.push(format!("{}: {part} uses {library}", path.display()));
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}

#[test]
fn the_map_names_every_part() {
    let map = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/lib.rs")).unwrap();
    let documented: String = map.lines().filter(|l| l.starts_with("//!")).collect();
    let parts = map.lines().filter_map(|l| l.strip_prefix("pub mod ")).map(|l| l.trim_end_matches(';'));
    let missing: Vec<&str> = parts.filter(|part| !documented.contains(&format!("[`{part}`]"))).collect();
    assert!(missing.is_empty(), "lib.rs says nothing of {missing:?}");
}

#[test]
fn only_visibility_builds_a_grant() {
    let builders: Vec<PathBuf> = files()
        .into_iter()
        .filter(|(_, _, text)| {
            code_lines(text).any(|l| l.contains("Grant {") && !l.contains("struct") && !l.contains("impl"))
        })
        .map(|(_, path, _)| path)
        .collect();
    assert_eq!(builders.len(), 1, "{builders:?}");
    assert!(builders[0].ends_with("trust/visibility.rs"));
}

#[test]
fn the_readme_has_the_table_of_settings() {
    let readme = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap();
    assert!(
        readme.contains(&cima::config::table()),
        "README.md has another table than `cima settings` prints"
    );
}
