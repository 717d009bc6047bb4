//! The tables of ARCHITECTURE.md that are rules: which modules there are, what each may use, and which libraries only
//! some may use.

use std::collections::BTreeSet;

/// The rules.
pub(crate) struct Map {
    /// Module, and what it may use; `None` is everything. From what uses nothing to what uses all.
    modules: Vec<(String, Option<Vec<String>>)>,
    /// Library, and the modules that may use it.
    libraries: Vec<(String, Vec<String>)>,
}

impl Map {
    /// Reads the tables whose heads are `| module |` and `| library |`.
    pub(crate) fn read(architecture: &str) -> Self {
        let modules = table(architecture, "module");
        let modules = modules.into_iter().map(|row| {
            let uses = &row[row.len() - 1];
            (one(&row[0]), (uses != "everything").then(|| words(uses)))
        });
        let libraries = table(architecture, "library");
        let libraries = libraries.into_iter().flat_map(|row| {
            let parts = words(&row[1]);
            words(&row[0]).into_iter().map(move |library| (library, parts.clone()))
        });
        let map = Self { modules: modules.collect(), libraries: libraries.collect() };
        assert!(!map.modules.is_empty() && !map.libraries.is_empty(), "ARCHITECTURE.md has no map");
        for named in map.modules.iter().filter_map(|(_, uses)| uses.as_ref()).flatten() {
            assert!(map.has(named), "{named} is used by a module of the map, and is none");
        }
        for named in map.libraries.iter().flat_map(|(_, parts)| parts) {
            assert!(map.has(named), "{named} may use a library, and is no module of the map");
        }
        map
    }

    /// Whether there is a module of this name.
    pub(crate) fn has(&self, module: &str) -> bool {
        self.modules().any(|m| m == module)
    }

    /// All modules.
    pub(crate) fn modules(&self) -> impl Iterator<Item = &str> {
        self.modules.iter().map(|(module, _)| module.as_str())
    }

    /// Whether one module may use another. One that is not on the map may use nothing of it.
    pub(crate) fn may_use(&self, module: &str, used: &str) -> bool {
        let uses = self.modules.iter().find(|(m, _)| m == module);
        uses.is_some_and(|(_, uses)| uses.as_ref().is_none_or(|uses| uses.iter().any(|u| u == used)))
    }

    /// Whether a module may use a library. One that no row names may be used by all.
    pub(crate) fn may_have(&self, module: &str, library: &str) -> bool {
        let only = self.libraries.iter().find(|(l, _)| l == library);
        only.is_none_or(|(_, parts)| parts.iter().any(|part| part == module))
    }

    /// Each module that may use one which stands below it, with that one.
    pub(crate) fn uses_of_what_is_below(&self) -> BTreeSet<(String, String)> {
        let place = |module: &str| self.modules().position(|m| m == module);
        let mut below = BTreeSet::new();
        for (module, uses) in &self.modules {
            for used in uses.iter().flatten().filter(|used| place(used) >= place(module)) {
                below.insert((module.clone(), used.clone()));
            }
        }
        below
    }
}

/// The rows of the table whose first column has this head.
fn table(text: &str, head: &str) -> Vec<Vec<String>> {
    let cells = |line: &str| -> Vec<String> {
        line.trim().trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect()
    };
    let start = format!("| {head} |");
    let rows = text.lines().skip_while(|line| !line.starts_with(&start)).skip(2);
    rows.take_while(|line| line.starts_with('|')).map(cells).collect()
}

/// What stands between backquotes.
fn words(cell: &str) -> Vec<String> {
    cell.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

fn one(cell: &str) -> String {
    let words = words(cell);
    assert_eq!(words.len(), 1, "one module a row: {cell}");
    words.concat()
}
