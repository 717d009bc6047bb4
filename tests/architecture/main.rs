//! Who may import whom, and other things about the tree that are easily forgotten. The rules are the tables of
//! ARCHITECTURE.md: what is said there is what is held here.

#![expect(clippy::unwrap_used, reason = "a test that cannot read the tree has failed")]

mod map;
mod uses;

use map::Map;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use uses::Uses;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn text(file: &str) -> String {
    fs::read_to_string(root().join(file)).unwrap()
}

/// A source file: its module and what it uses.
struct Source {
    path: PathBuf,
    module: Vec<String>,
    uses: Uses,
}

impl Source {
    /// The part of the tree that it belongs to.
    fn part(&self) -> &str {
        &self.module[0]
    }
}

fn read(folder: &Path, module: &[String], found: &mut Vec<Source>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        if path.is_dir() {
            read(&path, &[module, &[name]].concat(), found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            let module = if name == "mod" { module.to_vec() } else { [module, &[name]].concat() };
            let here: Vec<&str> = module.iter().map(String::as_str).collect();
            let here = if ["lib", "main"].contains(&here[0]) { &[] } else { &here[..] };
            let uses = Uses::of(&fs::read_to_string(&path).unwrap(), here)
                .unwrap_or_else(|e| panic!("{}: {e}", path.display()));
            found.push(Source { path, module, uses });
        }
    }
}

/// Every source file that is not only there for tests.
fn sources() -> Vec<Source> {
    let mut found = Vec::new();
    read(&root().join("src"), &[], &mut found);
    let only_tests: BTreeSet<Vec<String>> = found
        .iter()
        .flat_map(|s| {
            s.uses.only_tests.iter().map(|name| [&s.module[..], std::slice::from_ref(name)].concat())
        })
        .collect();
    found.retain(|s| !(1..=s.module.len()).any(|depth| only_tests.contains(&s.module[..depth])));
    found
}

/// What breaks the rules of the map in a file of this part.
fn broken(map: &Map, part: &str, uses: &Uses) -> Vec<String> {
    let mut broken = Vec::new();
    for used in uses.modules() {
        if used == "*" {
            broken.push(format!("{part} imports the whole crate, so that nobody sees what it uses"));
        } else if map.has(used) && !map.may_use(part, used) {
            broken.push(format!("{part} uses {used}"));
        }
    }
    for library in &uses.others {
        if !map.may_have(part, library) {
            broken.push(format!("{part} uses the library {library}"));
        }
    }
    broken
}

#[test]
fn each_part_uses_only_what_the_map_says() {
    let map = Map::read(&text("ARCHITECTURE.md"));
    let mut all = Vec::new();
    for source in sources() {
        let broken = broken(&map, source.part(), &source.uses);
        all.extend(broken.into_iter().map(|what| format!("{}: {what}", source.path.display())));
    }
    assert!(all.is_empty(), "ARCHITECTURE.md says otherwise: {all:#?}");
}

#[test]
fn the_map_is_the_tree() {
    let map = Map::read(&text("ARCHITECTURE.md"));
    let tree: BTreeSet<String> =
        sources().iter().map(|s| s.part().to_owned()).filter(|part| part != "lib").collect();
    let named: BTreeSet<String> = map.modules().map(str::to_owned).collect();
    assert_eq!(named, tree, "the map of ARCHITECTURE.md, and what is in src/");
    let lib = text("src/lib.rs");
    let documented: String = lib.lines().filter(|l| l.starts_with("//!")).collect();
    let missing: Vec<&String> =
        tree.iter().filter(|part| *part != "main" && !documented.contains(&format!("[`{part}`]"))).collect();
    assert!(missing.is_empty(), "lib.rs says nothing of {missing:?}");
}

#[test]
fn what_the_map_lets_a_part_use_stands_above_it() {
    let map = Map::read(&text("ARCHITECTURE.md"));
    let below = map.uses_of_what_is_below();
    assert!(below.is_empty(), "these may use what stands below them: {below:?}");
}

#[test]
fn only_visibility_builds_a_grant() {
    let sources = sources();
    let builders: Vec<&PathBuf> =
        sources.iter().filter(|s| s.uses.builds.contains("Grant")).map(|s| &s.path).collect();
    assert_eq!(builders.len(), 1, "{builders:?}");
    assert!(builders[0].ends_with("trust/visibility.rs"));
}

/// A column that is added while nodes go on changes what `*` gives, and PostgreSQL then refuses what was prepared before.
#[test]
fn no_row_is_read_by_a_star() {
    // What stands between is only asked again by the statement around it.
    let starred = |line: &&str| {
        let star = line.contains("SELECT *") || line.contains(".*,") || line.contains(".* FROM");
        star && !line.contains("FROM (SELECT") && !line.contains("unnest(")
    };
    for source in sources().iter().filter(|source| source.path.starts_with(root().join("src/store"))) {
        let text = fs::read_to_string(&source.path).unwrap();
        let found: Vec<&str> = text.lines().filter(starred).collect();
        assert!(found.is_empty(), "{}: {found:?}", source.path.display());
    }
}

#[test]
fn the_readme_has_the_table_of_settings() {
    assert!(
        text("README.md").contains(&cima::config::table()),
        "README.md has another table than `cima settings` prints"
    );
}

/// What breaks the rules in a text that would stand in `src/tracking/fence.rs`.
fn broken_in_tracking(text: &str) -> Vec<String> {
    let map = Map::read(&self::text("ARCHITECTURE.md"));
    broken(&map, "tracking", &Uses::of(text, &["tracking", "fence"]).unwrap())
}

#[test]
fn every_way_to_use_what_is_forbidden_is_seen() {
    for text in [
        "use crate::{store::Backend, clock};",
        "use crate::{clock::{self, Timestamp}, store};",
        "pub use crate::store::Backend as Somewhere;",
        "use crate::store::*;",
        "use super::super::store::Backend;",
        "use super::super::{clock, store::Backend};",
        "fn f() { crate::store::open(); }",
        "fn f(backend: &crate::store::Backend) {}",
        "fn f() -> Vec<Option<crate::store::Backend>> { vec![] }",
        "impl crate::store::Anything for X {}",
        "fn f(x: X) { match x { crate::store::Backend::Folder(_) => {} _ => {} } }",
        "fn f() { println!(\"{}\", crate::store::open()); }",
        "fn f() { vec![1, g(&[crate::store::X])]; }",
        "macro_rules! m { () => { $crate::store::open() }; }",
        "#[serde(with = \"crate::store::words\")] struct X;",
        "#[schema(value_type = crate::store::Backend)] struct X;",
        "mod inside { use super::super::super::store::Backend; }",
        "fn f() { use crate::store as s; s::open(); }",
    ] {
        assert_eq!(broken_in_tracking(text), ["tracking uses store"], "{text}");
    }
    for text in ["use crate as c;", "use crate::*;", "use crate::{self as c};", "use super::super as up;"] {
        assert_eq!(broken_in_tracking(text).len(), 1, "{text}");
    }
    for text in [
        "use sqlx::query;",
        "use {sqlx::query as q, std::fmt};",
        "use sqlx;",
        "use ::sqlx as s;",
        "extern crate sqlx;",
        "#[derive(Debug, sqlx::FromRow)] struct Row;",
        "fn f() { sqlx::query(\"\"); }",
        "fn f() { assert!(sqlx::query(\"\").is_ok()); }",
    ] {
        assert_eq!(broken_in_tracking(text), ["tracking uses the library sqlx"], "{text}");
    }
}

#[test]
fn what_is_allowed_or_only_said_is_not_seen() {
    for text in [
        "use crate::clock::Timestamp; use super::evaluate; use crate::tracking::fence::Fence;",
        "/// Like [`crate::store::Backend`]; `use crate::store`.\nstruct X;",
        "//! crate::store\n// use crate::store;\n/* crate::store::x */",
        "const X: &str = \"use crate::store::Backend; sqlx::query\";",
        "#[cfg(test)] mod tests { use crate::store::Backend; use sqlx::query; }",
        "#[cfg(test)] use crate::store::Backend;",
        "#[cfg(all(test, unix))] fn f() { crate::store::open(); }",
        "fn f() { let store = 1; g(store); self::h(); }",
    ] {
        assert_eq!(broken_in_tracking(text), Vec::<String>::new(), "{text}");
    }
    let only_here = Uses::of("#[cfg(test)] mod tests; mod other;", &["tracking"]).unwrap();
    assert_eq!(only_here.only_tests, BTreeSet::from(["tests".to_owned()]));
}
