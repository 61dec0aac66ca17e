//! Tests the order of the layers and the messages for faults.

use super::*;

fn env(pairs: &[(&str, &str)]) -> Vec<(OsString, OsString)> {
    pairs.iter().map(|(n, v)| (n.into(), v.into())).collect()
}

fn flag(path: &str, text: &str) -> (&'static Setting, String) {
    let setting = settings().iter().find(|s| s.path == path);
    (setting.unwrap(), text.to_owned())
}

/// Loads a file with this text; the fault with the file's path replaced by `FILE`.
fn of_file(text: &str) -> Result<Config, String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("c.toml");
    std::fs::write(&path, text).unwrap();
    let inputs = Inputs {
        file: Some(path.clone()),
        ..Inputs::default()
    };
    let plain = |trouble: Trouble| {
        trouble
            .to_string()
            .replace(&path.display().to_string(), "FILE")
    };
    load(&inputs).map(|loaded| loaded.config).map_err(plain)
}

fn of_environment(pairs: &[(&str, &str)]) -> Result<Loaded, String> {
    let inputs = Inputs {
        environment: env(pairs),
        ..Inputs::default()
    };
    load(&inputs).map_err(|trouble| trouble.to_string())
}

#[test]
fn flags_go_before_the_environment_before_the_file_before_the_default() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(USER_FILE);
    std::fs::create_dir(folder.path().join("amcp")).unwrap();
    std::fs::write(
        &path,
        "model = 'file'\nattempts = 7\nollama_url = 'http://file:1'\n",
    )
    .unwrap();
    let home = folder.path().to_str().unwrap();
    let mut inputs = Inputs {
        flags: vec![flag("model", "flag"), flag("offline", "")],
        file: None,
        environment: env(&[
            ("XDG_CONFIG_HOME", home),
            ("AMCP_MODEL", "env"),
            ("AMCP_RETAINED", "5"),
            ("AMCP_ATTEMPTS", ""),
            ("OLLAMA_HOST", "host:2"),
        ]),
    };
    let loaded = load(&inputs).unwrap();
    assert_eq!(loaded.config.model.as_deref(), Some("flag"));
    assert_eq!(loaded.source("model"), &Source::Flag("--model".into()));
    assert_eq!(loaded.config.retained.get(), 5);
    assert_eq!(loaded.config.attempts.get(), 7);
    assert_eq!(loaded.source("attempts"), &Source::File(path.clone()));
    assert_eq!(loaded.file, Some((path, OF_USER)));
    assert_eq!(loaded.source("offline"), &Source::Default);
    assert_eq!(loaded.config.ollama_url.as_str(), "http://file:1");
    inputs.environment.remove(0);
    inputs.flags.clear();
    let loaded = load(&inputs).unwrap();
    assert_eq!(loaded.file, None);
    assert_eq!(loaded.config.model.as_deref(), Some("env"));
    assert_eq!(loaded.config.ollama_url.as_str(), "http://host:2");
    let host = Source::Environment("OLLAMA_HOST".into());
    assert_eq!(loaded.source("ollama_url"), &host);
    // A server's address alone chooses no LLM.
    assert_eq!(loaded.config.llm, super::super::value::LlmKind::Embedded);
}

#[test]
fn lists_and_tables_are_the_same_in_the_file_the_environment_and_flags() {
    let file = "parts = ['orchestrator']\njoin = ['a:1', 'dns:b:2']\ncookie.file = '/c'\n[cluster_allow]\nb = ['x.*', 'y.z']\nc = []\n";
    let texts = [
        ("AMCP_PARTS", "orchestrator"),
        ("AMCP_JOIN", "a:1, dns:b:2,"),
        ("AMCP_CLUSTER_ALLOW", "b=x.*,y.z;c="),
        ("AMCP_COOKIE_FILE", "/c"),
    ];
    let loaded = of_environment(&texts).unwrap();
    assert_eq!(of_file(file).unwrap(), loaded.config);
    let shown = |path: &str| {
        let (_, value) = loaded.values().find(|(s, _)| s.path == path).unwrap();
        schema::shown(&value)
    };
    assert_eq!(shown("cluster_allow"), "b=x.*,y.z;c=");
    // Only the file has tables of tables.
    let file = "[cluster_trust.b]\nroles = []\ncapabilities = ['x.*']\n[cluster_trust.c]\n";
    let trust = of_file(file).unwrap().cluster_trust;
    let [b, c] = ["b", "c"].map(|name| &trust[&amcp_protocol::NodeName::new(name).unwrap()]);
    assert_eq!(
        (b.roles.as_deref(), c.roles.as_deref()),
        (Some(&[][..]), None)
    );
    assert!(b.capabilities.as_ref().unwrap()[0].matches("x.y"));
    assert!(of_file("[cluster_trust.b]\nrole = []").is_err());
    assert_eq!(shown("join"), "a:1,dns:b:2");
    assert_eq!(shown("cookie"), "file=/c");
}

#[test]
fn what_the_file_says_wrong_is_refused_with_line_column_key_and_advice() {
    for (text, trouble) in [
        (
            "\nollama_ur = 'http://x'",
            "FILE:2:1: 'ollama_ur' is unknown\nhint: did you mean ollama_url?",
        ),
        (
            "xyz = 1",
            "FILE:1:1: 'xyz' is unknown\nhint: `amcp config show` lists all settings",
        ),
        (
            "attempts = 'many'",
            "FILE:1:12: attempts is not usable: invalid type: string \"many\", expected a nonzero u32\nhint: attempts takes number from 1",
        ),
        (
            "model = 'ü'\nattempts = 0",
            "FILE:2:12: attempts is not usable: invalid value: integer `0`, expected a nonzero u32\nhint: attempts takes number from 1",
        ),
        (
            "llm = 'olama'",
            "FILE:1:7: 'olama' is unknown for llm\nhint: did you mean ollama?",
        ),
        (
            "parts = [\n  'orchestrator',\n  'zzz',\n]",
            "FILE:3:3: 'zzz' is unknown for parts[1]\nhint: choose from orchestrator, gateway, specialists",
        ),
        (
            "deadline = 30",
            "FILE:1:12: deadline is not usable: invalid type: integer `30`, expected a string\nhint: deadline takes duration",
        ),
        ("[cluster_allow]\nB = []", "FILE:2:1: "),
        (
            "roles = ['gateway']",
            "FILE:1:9: roles is not usable: invalid type: sequence, expected a map\nhint: the parts of a node are the setting `parts`",
        ),
        (
            "[roles.a]\nallow = [\n  'finance.*',\n  'x',\n]",
            "FILE:2:9: roles.a.allow[1] is not usable: ",
        ),
        (
            "[roles.a]\nalow = []",
            "FILE:2:1: 'alow' is unknown\nhint: did you mean allow?",
        ),
        (
            "[roles.a]\nirreversible = 'ask'",
            "FILE:2:16: 'ask' is unknown for roles.a.irreversible\nhint: choose from confirm, deny",
        ),
        ("data = ", "FILE:1:8: this is not TOML: "),
        (
            "data = 'x'\ndata = 'y'",
            "FILE:2:1: this is not TOML: duplicate key",
        ),
    ] {
        let said = of_file(text).unwrap_err();
        assert!(
            said.starts_with(&format!("error: {trouble}")),
            "{text:?}: {said}"
        );
    }
    let missing = Inputs {
        file: Some("/nowhere/x.toml".into()),
        ..Inputs::default()
    };
    let said = load(&missing).unwrap_err().to_string();
    assert!(said.contains("/nowhere/x.toml"), "{said}");
}

#[test]
fn what_a_variable_says_wrong_is_refused_with_its_name() {
    let old = of_environment(&[("AMCP_ROLES", "gateway")]).unwrap_err();
    assert!(old.contains("AMCP_PARTS"), "{old}");
    for (name, text, trouble) in [
        (
            "AMCP_ATTEMPTS",
            "many",
            "environment AMCP_ATTEMPTS: attempts is not usable: 'many' is no whole number\nhint: attempts takes number from 1",
        ),
        (
            "AMCP_OFFLINE",
            "ja",
            "environment AMCP_OFFLINE: offline is not usable: 'ja' is neither true nor false",
        ),
        (
            "AMCP_PARTS",
            "gateway",
            "environment AMCP_PARTS: parts is not usable: a gateway",
        ),
        (
            "AMCP_CLUSTER_ALLOW",
            "b",
            "environment AMCP_CLUSTER_ALLOW: cluster_allow is not usable: 'b' has no '='",
        ),
    ] {
        let said = of_environment(&[(name, text)]).unwrap_err();
        assert!(said.starts_with(&format!("error: {trouble}")), "{said}");
    }
}

#[test]
fn unknown_variables_are_a_warning_and_those_of_kubernetes_are_none() {
    let pairs = [
        ("AMCP_MODLE", "x"),
        ("AMCP_CONFIG", ""),
        ("AMCP_PORT", "tcp://10.0.0.1:8080"),
        ("AMCP_SERVICE_HOST", "10.0.0.1"),
        ("AMCP_SERVICE_PORT_HTTP", "8080"),
        ("AMCP_PORT_8080_TCP_ADDR", "10.0.0.1"),
        ("AMCP_GATEWAY_PORT_8080_TCP", "tcp://10.0.0.1:8080"),
    ];
    let loaded = of_environment(&pairs).unwrap();
    let warning = "the environment variable AMCP_MODLE is no setting; did you mean AMCP_MODEL?";
    assert_eq!(loaded.warnings, [warning]);
}

#[test]
fn no_fault_repeats_a_secret_or_a_password() {
    for text in [
        "openai_key = 's3cret",
        "openai_key = ['s3cret']",
        "openai_key = { fil = 's3cret' }",
        "openai_url = 'http://u:s3cret@x'",
        "openai_key = 's3cret'",
    ] {
        let said = of_file(text).unwrap_err();
        assert!(said.contains("FILE") && !said.contains("s3cret"), "{said}");
    }
    for name in ["OLLAMA_HOST", "AMCP_OLLAMA_URL"] {
        let said = of_environment(&[(name, "http://u:s3cret@x")]).unwrap_err();
        assert!(said.contains(name) && !said.contains("s3cret"), "{said}");
    }
    let loaded = of_environment(&[("AMCP_COOKIE", "s3cret")]).unwrap();
    let shown: Vec<Value> = loaded.values().map(|(_, value)| value).collect();
    assert!(!format!("{shown:?} {loaded:?}").contains("s3cret"));
}

#[cfg(unix)]
#[test]
fn a_secret_stands_only_in_a_file_that_is_its_owners() {
    use std::os::unix::fs::PermissionsExt;
    let said = of_file("openai_key = 'k'").unwrap_err();
    assert!(said.contains("chmod 600 FILE"), "{said}");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("c.toml");
    std::fs::write(&path, "openai_key = 'k'").unwrap();
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
    assert!(from_file(&path).is_ok());
    assert!(of_file("openai_key.env = 'K'\ncookie.file = '/c'").is_ok());
}
