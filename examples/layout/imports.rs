//! Which file of a crate imports which.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};

use super::tokens::{Token, lex, without_tests};

/// Which file imports which, and for each such pair the lines and the paths as written.
pub(super) type Imports = BTreeMap<(PathBuf, PathBuf), BTreeSet<(usize, String)>>;

/// The path of a module from the crate's root.
type ModulePath = Vec<String>;

/// One crate: its modules, what each of them imports and defines.
#[derive(Default)]
pub(super) struct Crate {
    modules: HashMap<ModulePath, Module>,
    /// Its files, with their tokens outside tests.
    pub(super) files: BTreeMap<PathBuf, Vec<Token>>,
}

/// One module. An inline one shares its file with the one that it stands in.
#[derive(Default)]
struct Module {
    file: PathBuf,
    /// What is defined in it.
    items: HashSet<String>,
    uses: Vec<Use>,
    /// Paths and single names in its code, outside `use`.
    mentions: Vec<(usize, Vec<String>)>,
}

/// One name of a `use`.
struct Use {
    line: usize,
    path: Vec<String>,
    /// The name it has here; `*` for all names.
    name: String,
    is_public: bool,
}

/// What a path leads to.
#[derive(PartialEq)]
enum Target {
    Module(ModulePath),
    /// Something that is defined in this module.
    Item(ModulePath),
}

impl Crate {
    /// Reads `file` as the module `path`, and the files of its children.
    pub(super) fn load(&mut self, file: &Path, path: &[String]) {
        let Ok(text) = fs::read_to_string(file) else { return };
        let tokens = without_tests(lex(&text).tokens);
        let children = self.parse(&tokens, file, path);
        self.files.insert(file.to_path_buf(), tokens);
        for (child, child_file) in children {
            self.load(&child_file, &child);
        }
    }

    /// Fills in the module `path` and its inline modules; returns the modules that are files of their own.
    fn parse(&mut self, tokens: &[Token], file: &Path, path: &[String]) -> Vec<(ModulePath, PathBuf)> {
        let mut children = Vec::new();
        let mut stack = vec![(path.to_vec(), 0)]; // the module that we are in, and the depth of braces it began at
        let mut depth = 0;
        let mut path_attribute: Option<String> = None;
        let mut at = 0;
        self.modules.insert(path.to_vec(), Module { file: file.to_path_buf(), ..Module::default() });
        while at < tokens.len() {
            let here = stack.last().expect("the file's own module is never left").0.clone();
            let module = self.modules.get_mut(&here).expect("entered above");
            let word = |ahead: usize| tokens.get(at + ahead).map_or("", |token| token.text.as_str());
            match word(0) {
                "{" => depth += 1,
                "}" => {
                    depth -= 1;
                    if stack.len() > 1 && stack.last().is_some_and(|(_, began)| *began == depth) {
                        stack.pop();
                    }
                }
                "#" if word(1) == "[" && word(2) == "path" && word(3) == "=" => {
                    path_attribute = Some(word(4).trim_matches('"').to_owned());
                }
                "mod" if word(2) == ";" => {
                    let child = joined(&here, word(1));
                    let inline = &here[path.len()..];
                    let root = path.is_empty();
                    children.push((child, child_file(file, root, inline, word(1), path_attribute.take())));
                    at += 2;
                }
                "mod" if word(2) == "{" => {
                    let child = joined(&here, word(1));
                    self.modules.insert(child.clone(), Module { file: file.to_path_buf(), ..Module::default() });
                    stack.push((child, depth));
                    depth += 1;
                    at += 2;
                }
                "use" => {
                    let is_public = at > 0 && ["pub", ")"].contains(&tokens[at - 1].text.as_str());
                    at += 1;
                    parse_use(tokens, &mut at, Vec::new(), is_public, &mut module.uses);
                }
                // `pub(in some::path)` names no thing.
                "pub" if word(1) == "(" => {
                    while tokens.get(at + 1).is_some_and(|token| token.text != ")") {
                        at += 1;
                    }
                }
                "fn" | "struct" | "enum" | "union" | "trait" | "type" | "const" | "static"
                    if tokens.get(at + 1).is_some_and(|token| token.is_name) =>
                {
                    let name = if word(1) == "mut" { word(2) } else { word(1) };
                    module.items.insert(name.to_owned());
                    at += if word(1) == "fn" { 0 } else { 1 };
                }
                "macro_rules" if word(1) == "!" => {
                    module.items.insert(word(2).to_owned());
                    at += 2;
                }
                _ if tokens[at].is_name => {
                    let line = tokens[at].line;
                    let is_member = at > 0 && [".", "::"].contains(&tokens[at - 1].text.as_str());
                    let mut name = vec![tokens[at].text.clone()];
                    while tokens.get(at + 1).is_some_and(|token| token.text == "::")
                        && tokens.get(at + 2).is_some_and(|token| token.is_name)
                    {
                        name.push(tokens[at + 2].text.clone());
                        at += 2;
                    }
                    if !is_member {
                        module.mentions.push((line, name));
                    }
                }
                _ => {}
            }
            at += 1;
        }
        children
    }

    /// Adds which file of this crate imports which.
    pub(super) fn add_imports(&self, imports: &mut Imports) {
        let star = ["*".to_owned()];
        for (here, module) in &self.modules {
            let mut add = |line: usize, path: &[String], target: &ModulePath| {
                let to = &self.modules[target].file;
                if *to != module.file {
                    let key = (module.file.clone(), to.clone());
                    imports.entry(key).or_default().insert((line, path.join("::")));
                }
            };
            for import in &module.uses {
                let path = [&import.path[..], if import.name == "*" { &star } else { &[] }].concat();
                let mut passed = Vec::new();
                let target = match self.resolve(here, &import.path, &mut passed, 0) {
                    Some(Target::Item(target)) => target,
                    Some(Target::Module(target)) if import.name == "*" => target,
                    _ => continue,
                };
                for through in &passed {
                    add(import.line, &path, through);
                }
                if !(import.is_public && self.is_below(here, &target)) {
                    add(import.line, &path, &target);
                }
            }
            for (line, path) in &module.mentions {
                let import = module.uses.iter().find(|import| import.name == path[0]);
                match import.map(|import| (import.is_public, self.resolve(here, &import.path, &mut Vec::new(), 0))) {
                    None if path.len() == 1 => continue,              // a local name
                    Some((false, Some(Target::Item(_)))) => continue, // counted where it is imported
                    _ => {}
                }
                let mut passed = Vec::new();
                if let Some(Target::Item(target)) = self.resolve(here, path, &mut passed, 0) {
                    for through in passed.iter().chain([&target]) {
                        add(*line, path, through);
                    }
                }
            }
        }
    }

    /// Whether `target` is a child of `here`, or a child of a child.
    fn is_below(&self, here: &[String], target: &[String]) -> bool {
        target.len() > here.len() && target.starts_with(here)
    }

    /// What `path` leads to when written in the module `here`, with the modules that only pass the name on in `passed`;
    /// nothing where it leads out of the crate, or to a local name.
    fn resolve(&self, here: &[String], path: &[String], passed: &mut Vec<ModulePath>, steps: usize) -> Option<Target> {
        if steps > 20 {
            return None; // two globs that name each other
        }
        let mut module = here.to_vec();
        let mut rest = path;
        match path.first()?.as_str() {
            "crate" => {
                module.clear();
                rest = &path[1..];
            }
            "self" => rest = &path[1..],
            "super" => {
                while rest.first().is_some_and(|word| word == "super") {
                    module.pop()?;
                    rest = &rest[1..];
                }
            }
            first => {
                let is_child = self.modules.contains_key(&joined(here, first));
                let current = &self.modules[here];
                if !is_child && !current.uses.iter().any(|import| import.name == first) {
                    return None;
                }
            }
        }
        while let Some(name) = rest.first() {
            let child = joined(&module, name);
            if self.modules.contains_key(&child) {
                module = child;
                rest = &rest[1..];
                continue;
            }
            let current = self.modules.get(&module)?;
            if current.items.contains(name) {
                return Some(Target::Item(module));
            }
            if let Some(import) = current.uses.iter().find(|import| import.name == *name) {
                // `use thing;` of another crate: not ours.
                if import.path.first() == Some(name) && import.path.len() == 1 {
                    return None;
                }
                let beyond = [&import.path[..], &rest[1..]].concat();
                passed.extend((module != *here).then(|| module.clone()));
                return self.resolve(&module, &beyond, passed, steps + 1);
            }
            for import in current.uses.iter().filter(|import| import.name == "*") {
                let beyond = [&import.path[..], rest].concat();
                if let Some(Target::Module(source)) = self.resolve(&module, &import.path, &mut Vec::new(), steps + 1) {
                    let source = &self.modules[&source];
                    if source.items.contains(name) || source.uses.iter().any(|import| import.name == *name) {
                        passed.extend((module != *here).then(|| module.clone()));
                        return self.resolve(&module, &beyond, passed, steps + 1);
                    }
                }
            }
            return Some(Target::Item(module)); // made by a macro, or a name that is not an item
        }
        Some(Target::Module(module))
    }
}

/// Where the module `name` of `file` (the root of its crate or not) is, declared within the inline modules `inline`.
fn child_file(file: &Path, is_root: bool, inline: &[String], name: &str, path_attribute: Option<String>) -> PathBuf {
    let folder = file.parent().unwrap_or(Path::new(""));
    if let Some(relative) = path_attribute {
        return normal(&folder.join(relative));
    }
    let stem = file.file_stem().and_then(|stem| stem.to_str()).unwrap_or("");
    let mut folder = if is_root || stem == "mod" { folder.to_path_buf() } else { folder.join(stem) };
    folder.extend(inline);
    let flat = folder.join(format!("{name}.rs"));
    if flat.is_file() { flat } else { folder.join(name).join("mod.rs") }
}

/// `a/../b` as `b`.
fn normal(path: &Path) -> PathBuf {
    let mut parts: Vec<&std::ffi::OsStr> = Vec::new();
    for part in path {
        if part == ".." {
            parts.pop();
        } else {
            parts.push(part);
        }
    }
    parts.iter().collect()
}

fn joined(path: &[String], name: &str) -> ModulePath {
    [path, &[name.to_owned()]].concat()
}

/// The names of one `use`, from behind the word up to its end.
fn parse_use(tokens: &[Token], at: &mut usize, prefix: Vec<String>, is_public: bool, uses: &mut Vec<Use>) {
    let mut path = prefix;
    let mut line = tokens.get(*at).map_or(0, |token| token.line);
    let mut alias = None;
    while let Some(token) = tokens.get(*at) {
        match token.text.as_str() {
            "::" => {}
            "{" => {
                *at += 1;
                loop {
                    parse_use(tokens, at, path.clone(), is_public, uses);
                    match tokens.get(*at).map(|token| token.text.as_str()) {
                        Some(",") => *at += 1,
                        Some("}") => break,
                        _ => return,
                    }
                }
                *at += 1;
                return;
            }
            "}" | "," | ";" => break,
            "as" => {
                alias = tokens.get(*at + 1).map(|token| token.text.clone());
                *at += 1;
            }
            word => {
                line = token.line;
                path.push(word.to_owned());
            }
        }
        *at += 1;
    }
    match path.last().map(String::as_str) {
        // `{self, Name}`: the module itself.
        Some("self") if path.len() > 1 => drop(path.pop()),
        Some("*") => {
            path.pop();
            alias = Some("*".to_owned());
        }
        _ => {}
    }
    if let Some(last) = path.last() {
        let name = alias.unwrap_or_else(|| last.clone());
        uses.push(Use { line, path, name, is_public });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The imports of a crate that is given as files, as `from -> to` without the endings.
    fn imports_of(files: &[(&str, &str)]) -> Vec<String> {
        let mut krate = Crate::default();
        for (file, text) in files {
            let path: Vec<String> = match file.trim_end_matches(".rs").trim_end_matches("/mod") {
                "lib" => Vec::new(),
                name => name.split('/').map(str::to_owned).collect(),
            };
            krate.parse(&without_tests(lex(text).tokens), Path::new(file), &path);
        }
        let mut imports = Imports::new();
        krate.add_imports(&mut imports);
        imports.keys().map(|(from, to)| format!("{} -> {}", from.display(), to.display())).collect()
    }

    #[test]
    fn a_use_is_an_import_and_so_is_an_inline_path() {
        let a = ("a.rs", "use crate::b::B; fn f() { crate::c::g(); super::d::h::<u8>() }");
        let others = [("b.rs", "struct B;"), ("c.rs", "fn g() {}"), ("d.rs", "fn h() {}"), ("lib.rs", "mod a;")];
        assert_eq!(imports_of(&[&[a], &others[..]].concat()), ["a.rs -> b.rs", "a.rs -> c.rs", "a.rs -> d.rs"]);
    }

    #[test]
    fn declaring_and_re_exporting_a_child_is_no_import_but_using_it_is() {
        let child = ("m/a.rs", "pub struct A;");
        assert_eq!(imports_of(&[("m/mod.rs", "mod a; pub use a::A;"), child]), [""; 0]);
        assert_eq!(imports_of(&[("m/mod.rs", "mod a; pub use a::A; struct B(A);"), child]), ["m/mod.rs -> m/a.rs"]);
        assert_eq!(imports_of(&[("m/mod.rs", "mod a; use a::A;"), child]), ["m/mod.rs -> m/a.rs"]);
        assert_eq!(imports_of(&[("m/mod.rs", "mod a; fn f() { a::A; }"), child]), ["m/mod.rs -> m/a.rs"]);
    }

    #[test]
    fn a_re_exported_name_counts_for_the_file_that_is_named_and_the_one_that_defines_it() {
        let parent = ("m/mod.rs", "mod a; mod b; pub use b::B; pub use self::b::*;");
        let defining = ("m/b.rs", "pub struct B; pub struct C;");
        assert_eq!(
            imports_of(&[parent, defining, ("m/a.rs", "use super::{B, C};")]),
            ["m/a.rs -> m/b.rs", "m/a.rs -> m/mod.rs"]
        );
    }

    #[test]
    fn a_module_counts_for_what_is_named_through_it() {
        let files = [("m/mod.rs", "pub mod a; pub mod b;"), ("m/b.rs", "pub fn f() {}")];
        let unused = ("c.rs", "use crate::m;");
        let through = ("c.rs", "use crate::m::{self, b as other}; fn g() { m::b::f(); other::f() }");
        let root = ("lib.rs", "");
        assert_eq!(imports_of(&[&files[..], &[unused, root]].concat()), [""; 0]);
        assert_eq!(imports_of(&[&files[..], &[through, root]].concat()), ["c.rs -> m/b.rs"]);
    }

    #[test]
    fn tests_strings_and_comments_are_not_code() {
        let a =
            ("a.rs", "// crate::b::B\n/// [`crate::b::B`]\nfn f() { \"crate::b::B\"; r#\"crate::b::B\"#; '\"'; }\n");
        let tests =
            ("c.rs", "#[cfg(test)]\n#[allow(x)]\nmod tests { use crate::b::B; } #[test] fn f() { crate::b::B; }");
        assert_eq!(imports_of(&[a, tests, ("b.rs", "struct B;"), ("lib.rs", "")]), [""; 0]);
    }
}
