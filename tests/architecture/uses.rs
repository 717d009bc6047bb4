//! What a source text uses: other modules of the tree, libraries, and what it builds. Parsed, so that groups, renames,
//! globs, `super::super` and paths inside macros and attributes count, and comments and strings do not.

use proc_macro2::{TokenStream, TokenTree};
use std::collections::BTreeSet;
use syn::visit::{self, Visit};
use syn::{Attribute, ExprStruct, File, Item, ItemExternCrate, ItemMod, ItemUse, Macro, Meta, Path, UseTree};

/// What one file uses. Whatever is under `#[cfg(test)]` is left out.
#[derive(Default, Debug)]
pub(crate) struct Uses {
    /// Paths within the crate, from its root: `store`, `store::Backend`. A glob ends in `*`.
    pub(crate) own: BTreeSet<String>,
    /// The first words of all other paths: libraries, and names that a `use` brought.
    pub(crate) others: BTreeSet<String>,
    /// The last word of the type of each struct that is built by its fields.
    pub(crate) builds: BTreeSet<String>,
    /// Modules in files of their own that only tests have.
    pub(crate) only_tests: BTreeSet<String>,
    here: Vec<String>,
}

impl Uses {
    /// Of a file whose module is `here`, such as `["store", "sqlite"]`.
    pub(crate) fn of(text: &str, here: &[&str]) -> syn::Result<Self> {
        let file: File = syn::parse_file(text)?;
        let mut uses = Self { here: here.iter().map(|s| (*s).to_owned()).collect(), ..Self::default() };
        uses.visit_file(&file);
        Ok(uses)
    }

    /// The modules of the crate's root that are used, without the file's own. `*` is a glob of the root.
    pub(crate) fn modules(&self) -> BTreeSet<&str> {
        let first = self.own.iter().map(|path| path.split("::").next().unwrap_or_default());
        first.filter(|module| self.here.first().is_none_or(|own| own != module)).collect()
    }

    /// Where a path leads from the root of the crate, if it begins with a word that says so.
    fn resolved(&self, path: &[String]) -> Option<Vec<String>> {
        let mut at = match path.first()?.as_str() {
            "crate" | "cima" => Vec::new(),
            "self" | "super" => self.here.clone(),
            _ => return None,
        };
        for (place, word) in path.iter().enumerate() {
            match word.as_str() {
                "crate" | "cima" if place == 0 => {}
                "self" => {}
                "super" => drop(at.pop()),
                _ => at.push(word.clone()),
            }
        }
        Some(at)
    }

    fn add(&mut self, path: &[String]) {
        match self.resolved(path) {
            Some(at) if at.is_empty() => {}
            Some(at) => drop(self.own.insert(at.join("::"))),
            None if path.len() > 1 => drop(self.others.insert(path[0].clone())),
            None => {}
        }
    }

    fn add_tree(&mut self, tree: &UseTree, before: &mut Vec<String>) {
        let end = |name: &str, before: &[String]| [before, &[name.to_owned()]].concat();
        match tree {
            UseTree::Path(path) => {
                before.push(path.ident.to_string());
                self.add_tree(&path.tree, before);
                before.pop();
            }
            UseTree::Group(group) => group.items.iter().for_each(|tree| self.add_tree(tree, before)),
            UseTree::Name(name) => self.add_used(&end(&name.ident.to_string(), before)),
            UseTree::Rename(rename) => self.add_used(&end(&rename.ident.to_string(), before)),
            UseTree::Glob(_) => self.add_used(&end("*", before)),
        }
    }

    /// What a `use` names. One word is a library; the crate itself under another name hides everything behind it.
    fn add_used(&mut self, path: &[String]) {
        match self.resolved(path) {
            Some(at) if at.is_empty() => drop(self.own.insert("*".to_owned())),
            None => drop(self.others.insert(path[0].clone())),
            Some(_) => self.add(path),
        }
    }

    /// Paths in what is not parsed: the insides of macros and attributes.
    fn add_tokens(&mut self, tokens: TokenStream, strings: bool) {
        let mut path: Vec<String> = Vec::new();
        let mut colons = 2;
        for token in tokens {
            match token {
                TokenTree::Ident(word) if colons == 2 => {
                    path.push(word.to_string());
                    colons = 0;
                }
                TokenTree::Punct(punct) if punct.as_char() == ':' && colons < 2 => colons += 1,
                other => {
                    // `crate::{a, b}` only stands in a `use`; after `::` a group is not part of a path.
                    self.add(&std::mem::take(&mut path));
                    match other {
                        TokenTree::Ident(word) => {
                            path.push(word.to_string());
                            colons = 0;
                            continue;
                        }
                        TokenTree::Group(group) => self.add_tokens(group.stream(), strings),
                        TokenTree::Literal(literal) if strings => self.add_literal(&literal.to_string()),
                        TokenTree::Literal(_) | TokenTree::Punct(_) => {}
                    }
                    colons = 2;
                }
            }
        }
        self.add(&path);
    }

    /// Attributes name functions in strings: `#[serde(with = "crate::clock::rfc3339")]`.
    fn add_literal(&mut self, literal: &str) {
        if let Ok(path) = syn::parse_str::<Path>(literal.trim_matches('"')) {
            self.visit_path(&path);
        }
    }
}

/// Whether it is only there for tests.
fn is_test(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|a| match &a.meta {
        Meta::List(list) if list.path.is_ident("cfg") => {
            let words: Vec<String> = list.tokens.clone().into_iter().map(|t| t.to_string()).collect();
            words.first().is_some_and(|word| word == "test")
                || (words.first().is_some_and(|word| word == "all")
                    && words.iter().any(|w| w.starts_with("(test")))
        }
        _ => false,
    })
}

fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(i) => &i.attrs,
        Item::Enum(i) => &i.attrs,
        Item::Fn(i) => &i.attrs,
        Item::Impl(i) => &i.attrs,
        Item::Mod(i) => &i.attrs,
        Item::Static(i) => &i.attrs,
        Item::Struct(i) => &i.attrs,
        Item::Trait(i) => &i.attrs,
        Item::Type(i) => &i.attrs,
        Item::Use(i) => &i.attrs,
        _ => &[],
    }
}

impl<'ast> Visit<'ast> for Uses {
    fn visit_item(&mut self, item: &'ast Item) {
        if !is_test(attributes(item)) {
            visit::visit_item(self, item);
        } else if let Item::Mod(ItemMod { ident, content: None, .. }) = item {
            self.only_tests.insert(ident.to_string());
        }
    }

    fn visit_item_mod(&mut self, module: &'ast ItemMod) {
        if module.content.is_some() {
            self.here.push(module.ident.to_string());
            visit::visit_item_mod(self, module);
            self.here.pop();
        }
    }

    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        self.add_tree(&item.tree, &mut Vec::new());
    }

    fn visit_item_extern_crate(&mut self, item: &'ast ItemExternCrate) {
        self.others.insert(item.ident.to_string());
    }

    fn visit_path(&mut self, path: &'ast Path) {
        let words: Vec<String> = path.segments.iter().map(|s| s.ident.to_string()).collect();
        self.add(&words);
        visit::visit_path(self, path);
    }

    fn visit_expr_struct(&mut self, built: &'ast ExprStruct) {
        if let Some(last) = built.path.segments.last() {
            self.builds.insert(last.ident.to_string());
        }
        visit::visit_expr_struct(self, built);
    }

    fn visit_macro(&mut self, call: &'ast Macro) {
        visit::visit_macro(self, call);
        self.add_tokens(call.tokens.clone(), false);
    }

    fn visit_attribute(&mut self, attribute: &'ast Attribute) {
        match &attribute.meta {
            // A doc comment is text.
            meta if meta.path().is_ident("doc") => {}
            Meta::List(list) => {
                self.visit_path(&list.path);
                self.add_tokens(list.tokens.clone(), true);
            }
            _ => visit::visit_attribute(self, attribute),
        }
    }
}
