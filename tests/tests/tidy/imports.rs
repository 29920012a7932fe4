//! Which file of a crate names what another one defines, and the circles that this makes.
//!
//! A name that is re-exported counts as the file's that defines it, so a `mod.rs` that only hands names on ties nothing together. Tests are
//! not looked at: they may look behind every wall.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use syn::visit::Visit;

/// The path of a module within its crate, such as `["engine", "timers"]`.
type ModulePath = Vec<String>;

#[derive(Default)]
struct Module {
    file: PathBuf,
    /// What it defines itself.
    defined: BTreeSet<String>,
    /// What it calls something else: its own name for it, and the whole path.
    imported: BTreeMap<String, Vec<String>>,
    /// Modules of which it imports every name.
    globs: Vec<Vec<String>>,
    /// Every path that it mentions, imports among them.
    mentioned: Vec<Vec<String>>,
}

/// The modules of one crate.
pub(crate) struct Crate {
    modules: BTreeMap<ModulePath, Module>,
}

impl Crate {
    /// Reads the crate that begins with this file.
    pub(crate) fn read(root: &Path) -> Self {
        let mut krate = Self {
            modules: BTreeMap::new(),
        };
        krate.read_file(root, root.parent().unwrap(), Vec::new());
        krate
    }

    /// Reads a file, and those of the modules that it declares; they lie in `dir`.
    fn read_file(&mut self, file: &Path, dir: &Path, path: ModulePath) {
        let text = std::fs::read_to_string(file)
            .unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        let parsed =
            syn::parse_file(&text).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        self.read_items(file, dir, path, &parsed.items);
    }

    fn read_items(&mut self, file: &Path, dir: &Path, path: ModulePath, items: &[syn::Item]) {
        let mut module = Module {
            file: file.to_owned(),
            ..Module::default()
        };
        for item in items.iter().filter(|item| !is_for_tests(item)) {
            if let syn::Item::Mod(declared) = item {
                let name = declared.ident.to_string();
                let (mut inner, inner_dir) = (path.clone(), dir.join(&name));
                inner.push(name.clone());
                match &declared.content {
                    Some((_, items)) => self.read_items(file, &inner_dir, inner, items),
                    None => {
                        let one = dir.join(format!("{name}.rs"));
                        let file = if one.exists() {
                            one
                        } else {
                            inner_dir.join("mod.rs")
                        };
                        self.read_file(&file, &inner_dir, inner);
                    }
                }
                continue;
            }
            if let Some(name) = name_of(item) {
                module.defined.insert(name);
            }
            Reader {
                module: &mut module,
                within: &path,
            }
            .visit_item(item);
        }
        self.modules.insert(path, module);
    }

    /// The file that defines what a path, as a module writes it, leads to; `None` outside this crate.
    fn file_of(&self, from: &[String], path: &[String], depth: usize) -> Option<&Path> {
        // Re-exports may go in circles by way of globs.
        if depth == 0 {
            return None;
        }
        let (first, rest) = path.split_first()?;
        let module = self.modules.get(from)?;
        match first.as_str() {
            "crate" => return self.file_within(&[], rest, depth),
            "self" => return self.file_within(from, rest, depth),
            "super" => return self.file_within(from.split_last()?.1, rest, depth),
            _ => {}
        }
        if let Some(imported) = module.imported.get(first) {
            // `use x::y as y` would lead to itself.
            if imported.first() == Some(first) && imported.len() == 1 {
                return None;
            }
            let whole: Vec<String> = imported.iter().chain(rest).cloned().collect();
            return self.file_of(from, &whole, depth - 1);
        }
        self.file_within(from, path, depth)
    }

    /// The same for a path within a module.
    fn file_within(&self, module: &[String], path: &[String], depth: usize) -> Option<&Path> {
        if depth == 0 {
            return None;
        }
        let of = self.modules.get(module)?;
        let Some((first, rest)) = path.split_first() else {
            // The module itself: who names it names what it goes on to take from it.
            return None;
        };
        if first == "super" {
            return self.file_within(module.split_last()?.1, rest, depth);
        }
        let inner: ModulePath = module.iter().chain([first]).cloned().collect();
        if self.modules.contains_key(&inner) {
            return self.file_within(&inner, rest, depth);
        }
        if of.defined.contains(first) {
            return Some(&of.file);
        }
        if let Some(imported) = of.imported.get(first) {
            if imported.len() == 1 && &imported[0] == first {
                return None;
            }
            let whole: Vec<String> = imported.iter().chain(rest).cloned().collect();
            return self.file_of(module, &whole, depth - 1);
        }
        of.globs.iter().find_map(|glob| {
            let whole: Vec<String> = glob.iter().chain(path).cloned().collect();
            self.file_of(module, &whole, depth - 1)
        })
    }

    /// Whether a file is that of a module which this one lies in: a part may know what it is a part of.
    fn is_around(&self, file: &Path, path: &[String]) -> bool {
        (0..path.len()).any(|depth| {
            let around = self.modules.get(&path[..depth]);
            around.is_some_and(|module| module.file == file)
        })
    }

    /// Which file uses which others, and by which names.
    pub(crate) fn uses(&self) -> BTreeMap<&Path, BTreeMap<&Path, BTreeSet<String>>> {
        let mut uses: BTreeMap<&Path, BTreeMap<&Path, BTreeSet<String>>> = BTreeMap::new();
        for (path, module) in &self.modules {
            let from = uses.entry(&module.file).or_default();
            for mentioned in &module.mentioned {
                if let Some(file) = self.file_of(path, mentioned, 16)
                    && file != module.file
                    && !self.is_around(file, path)
                {
                    from.entry(file).or_default().insert(mentioned.join("::"));
                }
            }
        }
        uses
    }

    /// Groups of files of which each can be reached from each, as text: the files, and what ties them.
    pub(crate) fn circles(&self) -> Vec<String> {
        let uses = self.uses();
        let reach = |from: &Path| {
            let (mut seen, mut next) = (BTreeSet::new(), vec![from.to_owned()]);
            while let Some(file) = next.pop() {
                for used in uses
                    .get(file.as_path())
                    .into_iter()
                    .flat_map(BTreeMap::keys)
                {
                    if seen.insert(used.to_path_buf()) {
                        next.push(used.to_path_buf());
                    }
                }
            }
            seen
        };
        let reached: BTreeMap<&Path, BTreeSet<PathBuf>> =
            uses.keys().map(|file| (*file, reach(file))).collect();
        let mut circles = BTreeMap::new();
        for (file, those) in &reached {
            let ring: BTreeSet<&PathBuf> = those
                .iter()
                .filter(|other| {
                    reached
                        .get(other.as_path())
                        .is_some_and(|back| back.contains(*file))
                })
                .collect();
            if ring.len() > 1 {
                let ties = ring.iter().flat_map(|from| {
                    let of = uses.get(from.as_path()).into_iter().flatten();
                    of.filter(|(to, _)| ring.contains(&to.to_path_buf()))
                        .map(|(to, names)| {
                            format!("  {} -> {}: {names:?}\n", from.display(), to.display())
                        })
                        .collect::<Vec<_>>()
                });
                circles.insert(format!("{ring:?}"), ties.collect::<String>());
            }
        }
        circles
            .into_iter()
            .map(|(ring, ties)| format!("{ring}\n{ties}"))
            .collect()
    }
}

/// Whether an item is compiled for tests only.
fn is_for_tests(item: &syn::Item) -> bool {
    let attributes = match item {
        syn::Item::Mod(item) => &item.attrs,
        syn::Item::Fn(item) => &item.attrs,
        syn::Item::Impl(item) => &item.attrs,
        syn::Item::Use(item) => &item.attrs,
        _ => return false,
    };
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("cfg")
            && matches!(&attribute.meta, syn::Meta::List(list) if list.tokens.to_string().starts_with("test"))
    })
}

fn name_of(item: &syn::Item) -> Option<String> {
    let name = match item {
        syn::Item::Const(item) => &item.ident,
        syn::Item::Enum(item) => &item.ident,
        syn::Item::Fn(item) => &item.sig.ident,
        syn::Item::Macro(item) => item.ident.as_ref()?,
        syn::Item::Static(item) => &item.ident,
        syn::Item::Struct(item) => &item.ident,
        syn::Item::Trait(item) => &item.ident,
        syn::Item::Type(item) => &item.ident,
        syn::Item::Union(item) => &item.ident,
        _ => return None,
    };
    Some(name.to_string())
}

/// Collects what a module mentions.
struct Reader<'a> {
    module: &'a mut Module,
    within: &'a [String],
}

impl Reader<'_> {
    fn import(&mut self, before: &[String], tree: &syn::UseTree, is_face: bool) {
        let with = |name: &syn::Ident| {
            let mut path = before.to_vec();
            path.push(name.to_string());
            path
        };
        match tree {
            syn::UseTree::Path(path) => self.import(&with(&path.ident), &path.tree, is_face),
            syn::UseTree::Name(name) if name.ident == "self" => {
                self.bind(
                    before.last().cloned().unwrap_or_default(),
                    before.to_vec(),
                    is_face,
                );
            }
            syn::UseTree::Name(name) => {
                self.bind(name.ident.to_string(), with(&name.ident), is_face)
            }
            syn::UseTree::Rename(name) => {
                self.bind(name.rename.to_string(), with(&name.ident), is_face)
            }
            syn::UseTree::Glob(_) => self.module.globs.push(before.to_vec()),
            syn::UseTree::Group(group) => {
                for tree in &group.items {
                    self.import(before, tree, is_face);
                }
            }
        }
    }

    fn bind(&mut self, name: String, path: Vec<String>, is_face: bool) {
        if !is_face {
            self.module.mentioned.push(path.clone());
        }
        self.module.imported.insert(name, path);
    }
}

impl<'a> Visit<'a> for Reader<'_> {
    fn visit_item_use(&mut self, item: &'a syn::ItemUse) {
        // A re-export hands a name on and uses nothing.
        let is_face = !matches!(item.vis, syn::Visibility::Inherited);
        self.import(&[], &item.tree, is_face);
    }

    fn visit_path(&mut self, path: &'a syn::Path) {
        let segments: Vec<String> = path.segments.iter().map(|s| s.ident.to_string()).collect();
        let is_local = segments.len() == 1 || self.within.is_empty() && segments.is_empty();
        if !is_local {
            self.module.mentioned.push(segments);
        }
        syn::visit::visit_path(self, path);
    }
}
