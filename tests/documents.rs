//! Do the documents name what exists? Every path in backticks is a file or directory, and the
//! functions in parentheses behind one are in that file.

use std::fs;
use std::path::Path;

const DOCUMENTS: [&str; 8] = [
    "CONTRIBUTING.md",
    "README.md",
    "SECURITY.md",
    "docs/architecture.md",
    "docs/cluster.md",
    "docs/operating.md",
    "docs/performance.md",
    "docs/state.md",
];

const DIRECTORIES: [&str; 11] = [
    ".ci/", "benches/", "dist/", "docs/", "fuzz/", "load/", "parser/", "ring/", "src/", "swarm/",
    "tests/",
];

fn read(path: &str) -> String {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    fs::read_to_string(file).unwrap_or_else(|error| panic!("{path}: {error}"))
}

#[test]
fn paths_and_functions_that_the_documents_name_exist() {
    let (mut paths, mut functions) = (0, 0);
    for document in DOCUMENTS {
        let text = read(document).replace("\n   ", " ").replace('\n', " ");
        // Every other part is within backticks.
        let parts: Vec<&str> = text.split('`').collect();
        for at in (1..parts.len()).step_by(2) {
            let path = parts[at];
            let is_path = DIRECTORIES.iter().any(|directory| path.starts_with(directory));
            if !is_path || path.contains(' ') {
                continue;
            }
            let root = Path::new(env!("CARGO_MANIFEST_DIR"));
            assert!(root.join(path).exists(), "{document}: there is no {path}");
            paths += 1;
            let mut before = " (";
            for behind in (at + 1..parts.len() - 1).step_by(2) {
                if parts[behind] != before {
                    break;
                }
                before = ", ";
                let name = parts[behind + 1];
                let source = read(path);
                let is_there = source.contains(&format!("fn {name}("))
                    || source.contains(&format!("fn {name}<"));
                assert!(is_there, "{document}: {path} has no function {name}");
                functions += 1;
            }
        }
    }
    assert!(paths > 60 && functions > 12, "{paths} paths, {functions} functions");
}
