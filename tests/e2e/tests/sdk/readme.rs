//! README's encrypted index in curl, Python and SQL does what README shows.

use std::fs;
use std::process::Command;

use bytes::BytesMut;
use postgres::types::{IsNull, ToSql, Type, to_sql_checked};
use sealvec_e2e::packages::{apt, has, virtual_environment};
use sealvec_e2e::sidecar::{ROLE, ROOT_KEY};
use sealvec_e2e::xtask::{must, root};
use sealvec_e2e::{Cluster, Sidecar};

/// A KEK with its own type, as the README asks for.
#[derive(Debug)]
struct Kek(Vec<u8>);

impl ToSql for Kek {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        out.extend_from_slice(&self.0);
        Ok(IsNull::No)
    }

    fn accepts(ty: &Type) -> bool {
        ty.name() == "kek"
    }

    to_sql_checked!();
}

/// The text with its fractions cut to six digits: the rest may depend on the processor's way to add.
fn cut(text: &str) -> String {
    let mut digits = None; // behind a point
    let kept = text.chars().filter(|&character| {
        digits = match (character, digits) {
            ('.', _) => Some(0),
            ('0'..='9', Some(count)) => Some(count + 1),
            _ => None,
        };
        digits.is_none_or(|count| count <= 6)
    });
    kept.collect()
}

#[test]
fn three_ways_in_are_as_the_readme_shows_them() {
    for program in ["curl", "openssl"] {
        if !has(program) {
            apt(&[program]);
        }
    }
    let readme = fs::read_to_string(root().join("README.md")).expect("the README is in the tree");
    let section = readme.split("\n## ").find(|text| text.starts_with("Encrypted indexes")).expect("the section");
    let block = |kind: &str| -> String {
        let text = section.split(&format!("```{kind}\n")).nth(1).unwrap_or_else(|| panic!("no {kind} in the section"));
        text.split("\n```").next().expect("split gives one").to_owned()
    };
    // What the comment behind a block says comes out of its last line.
    let shown =
        |block: &str| block.lines().last().and_then(|line| line.strip_prefix("# ")).expect("a result").to_owned();

    let cluster = Cluster::start("sdk-readme", &[]);
    let mut sidecar = Sidecar::start(&cluster, "readme", &[]);
    let here = |text: &str| text.replace("http://127.0.0.1:8000", &sidecar.url());

    let bash = block("bash");
    let script = format!("{}\necho; printf %s \"$INDEX_KEY\" > \"$KEY_FILE\"\n", here(&bash));
    let key_file = cluster.home().join("index-key");
    let said =
        must(Command::new("bash").args(["-euc", &script]).env("SEALVEC_ROOT_KEY", ROOT_KEY).env("KEY_FILE", &key_file));
    assert!(cut(said.trim_end()).ends_with(&cut(&shown(&bash))), "README: {}\ncame: {said}", shown(&bash));
    let key = fs::read_to_string(&key_file).expect("the script wrote it");

    let python = virtual_environment("python-cyborgdb-0.18.0", &super::python::packages("0.18.0"));
    let block_of_python = block("python");
    let (last, before) = {
        let mut lines: Vec<&str> = block_of_python.lines().filter(|line| !line.starts_with('#')).collect();
        (lines.pop().expect("a line"), lines.join("\n"))
    };
    let script = format!("{}\nprint({last})\n", here(&before));
    let mut python = Command::new(python);
    let said = must(python.args(["-c", &script]).env("SEALVEC_ROOT_KEY", ROOT_KEY).env("INDEX_KEY", &key));
    assert_eq!(cut(said.trim_end()), cut(&shown(&block_of_python)));

    let sql = block("sql");
    let (statement, table) = sql.split_once(';').expect("a statement");
    let row = table.lines().last().expect("a row").split('|').map(str::trim).collect::<Vec<_>>();
    let bytes = (0..32).map(|at| u8::from_str_radix(&key[2 * at..][..2], 16).expect("hexadecimal")).collect();
    let found = cluster
        .connect_as(ROLE, "e2e")
        .query_one(&format!("SELECT id, distance::text, metadata::text FROM (\n{statement}\n) shown"), &[&Kek(bytes)])
        .expect("one row");
    let found: Vec<String> = (0..3).map(|column| found.get(column)).collect();
    assert_eq!(cut(&found.join(" ")), cut(&row.join(" ")));
    sidecar.stop();
    cluster.log_is_clean();
}
