//! Which of the machine's users the key agent answers: the one that PostgreSQL runs as, and no other.

use std::process::Command;

use sealvec_e2e::cluster::is_root;
use sealvec_e2e::kms::KeyAgent;
use sealvec_e2e::packages::require;
use serde_json::json;

/// Asks whether slot `s` works, as a backend would; prints the answer's kind, its id, and the text of a refusal.
const ASK: &str = r#"
import socket, struct, sys
fields = [b"s", b"local", b"{}"]
body = struct.pack("<I", 5000) + b"".join(struct.pack("<I", len(f)) + f for f in fields)
frame = struct.pack("<BBQ", 1, 5, 7) + body
s = socket.socket(socket.AF_UNIX)
s.connect(sys.argv[1])
try:
    s.sendall(struct.pack("<I", len(frame)) + frame)
except OSError:
    pass
stream = s.makefile("rb")
answer = stream.read(struct.unpack("<I", stream.read(4))[0])
print(answer[1], struct.unpack("<Q", answer[2:10])[0], answer[19:].decode())
"#;

#[test]
fn only_the_servers_user_is_answered() {
    require("python3", &["python3"]);
    let mut agent = KeyAgent::start("users", &json!({}), &[], &[]);
    let ask = |agent: &KeyAgent, user: Option<&str>| {
        let mut command = match user {
            Some(user) => {
                let mut command = Command::new("runuser");
                command.args(["-u", user, "--", "/usr/bin/python3"]);
                command
            }
            None => Command::new("python3"),
        };
        let output = command.args(["-c", ASK]).arg(agent.socket()).current_dir("/").output().expect("it runs");
        assert!(output.status.success(), "{output:?}");
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    };
    let own = "255 7 key slot \"s\": provider local is the database server's own and needs no key agent";
    assert_eq!(ask(&agent, None), own);
    if is_root() {
        assert_eq!(ask(&agent, Some("postgres")), own);
        let refused = ask(&agent, Some("nobody"));
        assert!(refused.starts_with("255 0 this key agent does not serve user id"), "{refused}");
        assert!(agent.log().contains("may not ask for keys"));
    }
    agent.stop();
    assert!(!agent.socket().exists());
}
