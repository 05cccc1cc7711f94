//! The set-up in deploy/compose, as its README tells to use it.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use crate::docs::{blocks_of, read};
use crate::envoy;
use crate::support::mcp_authz;

const README: &str = "deploy/compose/README.md";
const SIDECAR_IMAGE: &str = "mcp-authz:0.1.0";
const DEMO_IMAGE: &str = "mcp-authz-demo:0.1.0";
const ENVOY_IMAGE: &str = "envoyproxy/envoy:v1.40.0";
const MOST_BYTES: u64 = 11_000_000;
const WITHIN: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(100);

const HELLO: (&str, &str) = ("echo", r#"{"text": "Hello, world!"}"#);
const GOOD_MORNING: (&str, &str) = ("echo", r#"{"text": "Good morning, world!"}"#);
const SUM: (&str, &str) = ("sum", r#"{"a": 41, "b": 1}"#);

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn the_policy_is_good_and_envoy_is_configured_for_it() {
    let policy = root().join("deploy/compose/policy");
    let run = |arguments: &[&str]| {
        let output = mcp_authz().args(arguments).arg(&policy).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    run(&["validate", "--deny-warnings"]);
    let printed: String = run(&["envoy-config", "--policy"])
        .lines()
        // The first names the version and the policy.
        .skip(1)
        .map(|line| format!("          {line}\n"))
        .collect();
    let config = read("deploy/compose/envoy.yaml");
    assert!(config.contains(&printed), "not in deploy/compose/envoy.yaml:\n{printed}");
}

#[test]
#[ignore = "needs a Docker engine, Compose, curl, and root or sudo: cargo test --locked -- --ignored"]
fn the_compose_set_up_does_what_its_readme_says() {
    let demo = Demo::start();
    demo.is_closed_to_the_outside();
    the_image_is_small_and_its_user_nobody();
    the_sidecar_may_do_nothing_else(&demo);

    let [_up, token, allowed, denied, malformed, edit] =
        blocks_of(README, "sh").try_into().unwrap();
    let token = demo.sh(&format!("{token}\nprintf %s \"$TOKEN\"")).trim().to_owned();
    let demo = Caller { demo, token };
    for (call, shown) in [allowed, denied, malformed].iter().zip(blocks_of(README, "text")) {
        let answer = demo.sh(call);
        for line in shown.lines() {
            assert!(answer.lines().any(|answered| answered == line), "{line}: not in\n{answer}");
        }
    }
    demo.has_let_through(1);
    the_decisions_are_told(&demo);

    // Without a restart.
    demo.sh(&edit);
    wait_for("the changed policy", || demo.status(GOOD_MORNING) == 200);
    demo.has_let_through(2);
    assert_eq!(demo.status(HELLO), 403);
    let sidecar = demo.container("mcp-authz");
    assert_eq!(inspect(&sidecar)["RestartCount"], 0);

    // An engine does not restart what it was told to kill.
    docker(&["kill", &sidecar]);
    demo.is_fail_closed();
    docker(&["start", &sidecar]);
    demo.is_well_again();
    demo.has_let_through(3);

    // What crashes is restarted.
    kill(&inspect(&sidecar)["State"]["Pid"]);
    wait_for("the restart", || {
        let status = demo.status(SUM);
        assert!([403, 500].contains(&status), "{status}");
        inspect(&sidecar)["RestartCount"] == 1
    });
    demo.is_well_again();
    demo.has_let_through(4);

    docker(&["stop", &sidecar]);
    assert_eq!(inspect(&sidecar)["State"]["ExitCode"], 0);
    demo.is_fail_closed();
    docker(&["start", &sidecar]);
    demo.is_well_again();
    demo.has_let_through(5);
}

fn the_image_is_small_and_its_user_nobody() {
    let image = inspect(SIDECAR_IMAGE);
    let bytes = image["Size"].as_u64().unwrap();
    // What is built for a trial is not what is shipped.
    if std::env::var_os("STATIC_PROFILE").is_none() {
        assert!(bytes <= MOST_BYTES, "{SIDECAR_IMAGE} has {bytes} bytes");
    }
    let config = &image["Config"];
    assert_eq!(config["User"], "65532:65532");
    assert_eq!(config["Labels"]["org.opencontainers.image.title"], "mcp-authz");
    assert_eq!(config["Labels"]["org.opencontainers.image.version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(config["Labels"]["org.opencontainers.image.licenses"], "Apache-2.0");
}

fn the_sidecar_may_do_nothing_else(demo: &Demo) {
    let container = inspect(&demo.container("mcp-authz"));
    assert_eq!(container["State"]["Health"]["Status"], "healthy");
    assert_eq!(container["HostConfig"]["ReadonlyRootfs"], true);
    let pid = &container["State"]["Pid"];
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    for line in [
        "Uid:\t65532\t65532\t65532\t65532",
        "Gid:\t65532\t65532\t65532\t65532",
        "CapEff:\t0000000000000000",
        "CapPrm:\t0000000000000000",
        "CapBnd:\t0000000000000000",
        "NoNewPrivs:\t1",
    ] {
        assert!(status.lines().any(|found| found == line), "{line}: not in\n{status}");
    }
}

/// In mcp-authz' own output, as they are made, in metrics and in Envoy's log.
fn the_decisions_are_told(demo: &Caller) {
    let sidecar = demo.container("mcp-authz");
    let decision = |reason: &str| {
        let log = docker(&["logs", &sidecar]);
        let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        lines.into_iter().find(|line| line["reason"] == reason)
    };
    for (reason, verdict, status) in [
        ("allow_rule", "Allow", 200),
        ("insufficient_scope", "Deny", 403),
        ("duplicate_key", "Deny", 400),
    ] {
        wait_for(&format!("{reason} in the decision log"), || decision(reason).is_some());
        let decision = decision(reason).unwrap();
        assert_eq!(decision["verdict"], verdict, "{decision}");
        assert_eq!(decision["httpStatus"], status, "{decision}");
    }

    // Envoy writes its log now and then.
    let denied = || {
        let log = docker(&["logs", &demo.container("envoy")]);
        let mut lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        lines.find(|line| line["status"] == 403)
    };
    wait_for("the denial in Envoy's log", || denied().is_some());
    let denied = denied().unwrap();
    assert_eq!(denied["mcp_authz"]["reason"], "insufficient_scope", "{denied}");
    assert_eq!(denied["upstream"], Value::Null, "{denied}");

    let admin = |path| demo.sh(&format!("curl -sf http://127.0.0.1:$ADMIN_PORT{path}"));
    assert!(admin("/metrics").contains("mcp_authz_decisions_total{"));
    admin("/readyz");

    let command = "docker compose exec mcp-authz /mcp-authz tail";
    assert!(read(README).contains(&format!("`{command}`")));
    let file = demo.policy.path().join("tail");
    let script = command.replace("exec", "exec -T");
    let mut shell = demo.shell(&format!("exec {script} > {}", file.display()));
    let _tail = Ends(shell.stdin(Stdio::null()).spawn().unwrap());
    // Decisions that are made before it watches are not shown.
    wait_for("a line of tail", || {
        assert_eq!(demo.status(SUM), 403);
        fs::read_to_string(&file).unwrap().contains("insufficient_scope")
    });
}

/// Everything of the set-up, under a name of its own. It is removed with this
/// value.
struct Demo {
    /// `docker compose` or `docker-compose`.
    compose: &'static str,
    project: String,
    ports: [u16; 2],
    policy: TempDir,
    _images: Vec<Image>,
}

impl Demo {
    fn start() -> Self {
        let compose = needed_programs();
        let build = root().join("deploy/docker/build-static.sh");
        succeed(Command::new(build).args(["mcp-authz", "demo"]));
        let images = vec![
            Image::build(SIDECAR_IMAGE, root(), &["-f", "deploy/docker/Dockerfile"]),
            Image::build(DEMO_IMAGE, root(), &["-f", "deploy/compose/demo/Dockerfile"]),
        ];
        let envoy = (!has_image(ENVOY_IMAGE)).then(envoy_image);

        // mcp-authz runs as another user.
        let policy = tempfile::tempdir().unwrap();
        fs::set_permissions(policy.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let file = policy.path().join("policy.yaml");
        fs::write(&file, read("deploy/compose/policy/policy.yaml")).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();

        let demo = Self {
            compose,
            project: format!("mcp-authz-test-{}", std::process::id()),
            ports: free_ports(),
            policy,
            _images: images.into_iter().chain(envoy).collect(),
        };
        demo.sh("docker compose config --quiet");
        demo.sh("docker compose up -d --no-build");
        // It answers itself to who has no token.
        wait_for("Envoy", || demo.status_with("", HELLO) == 401);
        demo
    }

    /// A command line of the README.
    fn shell(&self, script: &str) -> Command {
        let mut shell = Command::new("sh");
        shell
            .args(["-ec", &script.replace("docker compose", self.compose)])
            .current_dir(root().join("deploy/compose"))
            .env("COMPOSE_PROJECT_NAME", &self.project)
            .env("MCP_PORT", self.ports[0].to_string())
            .env("ADMIN_PORT", self.ports[1].to_string())
            .env("POLICY_DIR", self.policy.path());
        shell
    }

    /// Runs a script and returns its output.
    fn sh(&self, script: &str) -> String {
        succeed(&mut self.shell(script))
    }

    /// The status of a call of a tool; 0 if there is no answer.
    fn status_with(&self, token: &str, (tool, arguments): (&str, &str)) -> u16 {
        let params = format!(r#"{{"name": "{tool}", "arguments": {arguments}}}"#);
        let call =
            format!(r#"{{"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {params}}}"#);
        let output = self
            .shell(
                r#"curl -s -o /dev/null -w '%{http_code}' "http://127.0.0.1:$MCP_PORT/mcp" \
                     -H 'Content-Type: application/json' \
                     -H 'Accept: application/json, text/event-stream' \
                     ${TOKEN:+-H "Authorization: Bearer $TOKEN"} -d "$CALL""#,
            )
            .env("TOKEN", token)
            .env("CALL", call)
            .output()
            .unwrap();
        String::from_utf8(output.stdout).unwrap().parse().unwrap()
    }

    /// The container of a service, whether or not it runs.
    fn container(&self, service: &str) -> String {
        let project = format!("label=com.docker.compose.project={}", self.project);
        let service = format!("label=com.docker.compose.service={service}");
        let ids = docker(&["ps", "-aq", "--filter", &project, "--filter", &service]);
        let [id] = ids.split_whitespace().collect::<Vec<_>>().try_into().unwrap();
        id.to_owned()
    }

    fn is_closed_to_the_outside(&self) {
        let project = format!("label=com.docker.compose.project={}", self.project);
        let mut published: Vec<u16> = Vec::new();
        for container in docker(&["ps", "-aq", "--filter", &project]).split_whitespace() {
            let container = inspect(container);
            let bindings = container["HostConfig"]["PortBindings"].as_object().cloned();
            for binding in bindings.unwrap_or_default().values() {
                for binding in binding.as_array().unwrap() {
                    assert_eq!(binding["HostIp"], "127.0.0.1", "{}", container["Name"]);
                    published.push(binding["HostPort"].as_str().unwrap().parse().unwrap());
                }
            }
            assert_eq!(container["HostConfig"]["CapDrop"], serde_json::json!(["ALL"]));
        }
        published.sort_unstable();
        let mut ports = self.ports;
        ports.sort_unstable();
        assert_eq!(published, ports);
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let said = self.shell("docker compose ps -a; docker compose logs --tail=50").output();
            eprintln!("{}", said.as_ref().map(text).unwrap_or_default());
        }
        let down = "docker compose down --volumes --remove-orphans --timeout 5";
        let output = self.shell(down).output();
        if !output.as_ref().is_ok_and(|output| output.status.success()) {
            eprintln!("`{down}` failed for the project {}: {output:?}", self.project);
        }
    }
}

/// A set-up, and a caller with a token.
struct Caller {
    demo: Demo,
    token: String,
}

impl std::ops::Deref for Caller {
    type Target = Demo;

    fn deref(&self) -> &Demo {
        &self.demo
    }
}

impl Caller {
    fn sh(&self, script: &str) -> String {
        succeed(self.demo.shell(script).env("TOKEN", &self.token))
    }

    fn status(&self, call: (&str, &str)) -> u16 {
        self.demo.status_with(&self.token, call)
    }

    /// So many requests have reached the server, counting one that is allowed last.
    fn has_let_through(&self, requests: usize) {
        let seen = || {
            let log = docker(&["logs", &self.container("mcp-server")]);
            log.lines().filter(|line| line.ends_with(" /mcp")).count()
        };
        wait_for("the server's log", || seen() >= requests);
        assert_eq!(seen(), requests);
    }

    fn is_fail_closed(&self) {
        for call in [HELLO, GOOD_MORNING, SUM] {
            assert_eq!(self.status(call), 500);
        }
    }

    /// Makes one call that is allowed.
    fn is_well_again(&self) {
        let sidecar = self.container("mcp-authz");
        wait_for("mcp-authz' health", || {
            inspect(&sidecar)["State"]["Health"]["Status"] == "healthy"
        });
        assert_eq!(self.status(SUM), 403);
        assert_eq!(self.status(GOOD_MORNING), 200);
    }
}

/// A name of an image; what it was before is restored when this is dropped.
struct Image {
    name: &'static str,
    before: Option<String>,
}

impl Image {
    fn build(name: &'static str, context: &Path, arguments: &[&str]) -> Self {
        let before = has_image(name).then(|| inspect(name)["Id"].as_str().unwrap().to_owned());
        let image = Self { name, before };
        let mut build = Command::new("docker");
        build.args(["build", "--tag", name, "--target", "prebuilt"]).args(arguments).arg(".");
        succeed(build.current_dir(context));
        image
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        let mut docker = Command::new("docker");
        let restored = match &self.before {
            Some(before) => docker.args(["tag", before, self.name]).output(),
            None => docker.args(["rmi", "--force", self.name]).output(),
        };
        if !restored.as_ref().is_ok_and(|output| output.status.success()) {
            eprintln!("the image {} is left behind: {restored:?}", self.name);
        }
    }
}

/// Envoy's official image, as far as the set-up knows it, made of the Envoy that the
/// other tests use: for machines that cannot pull it.
fn envoy_image() -> Image {
    let binary = envoy::find(|text| eprintln!("{text}")).unwrap();
    let context = tempfile::tempdir().unwrap();
    let rootfs = context.path().join("rootfs");
    let copy = |from: &Path, to: &Path| {
        let to = rootfs.join(to.strip_prefix("/").unwrap());
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::copy(from, to).unwrap();
    };
    copy(&binary, Path::new("/usr/local/bin/envoy"));
    let ldd = Command::new("ldd").arg(&binary).output().expect("needs ldd");
    for library in text(&ldd).split_whitespace().filter(|word| word.starts_with('/')) {
        if let Some(library) = Some(PathBuf::from(library)).filter(|path| path.is_file()) {
            copy(&library, &library);
        }
    }
    fs::create_dir_all(rootfs.join("etc")).unwrap();
    fs::write(rootfs.join("etc/passwd"), "envoy:x:101:101::/:/sbin/nologin\n").unwrap();
    let dockerfile = "\
FROM scratch AS prebuilt
COPY rootfs/ /
ENV PATH=/usr/local/bin
CMD [\"envoy\", \"-c\", \"/etc/envoy/envoy.yaml\"]
";
    fs::write(context.path().join("Dockerfile"), dockerfile).unwrap();
    Image::build(ENVOY_IMAGE, context.path(), &[])
}

/// A process that ends with this value.
struct Ends(Child);

impl Drop for Ends {
    fn drop(&mut self) {
        envoy::end(&mut self.0);
    }
}

/// Asserts that the needed programs work, and returns the command that runs Compose.
fn needed_programs() -> &'static str {
    let works = |command: &[&str]| {
        let output = Command::new(command[0]).args(&command[1..]).output();
        output.is_ok_and(|output| output.status.success())
    };
    assert!(
        works(&["docker", "info"]),
        "needs a Docker engine that this user may use: make `docker info` work here"
    );
    assert!(works(&["curl", "--version"]), "needs curl: install it");
    if works(&["docker", "compose", "version"]) {
        return "docker compose";
    }
    assert!(
        works(&["docker-compose", "version"]),
        "needs Docker Compose: make `docker compose version` or `docker-compose version` work here"
    );
    "docker-compose"
}

fn has_image(name: &str) -> bool {
    !docker(&["images", "--quiet", name]).trim().is_empty()
}

/// Returns what `docker inspect` reports about a container or an image.
fn inspect(name: &str) -> Value {
    let found: Value = serde_json::from_str(&docker(&["inspect", name])).unwrap();
    found[0].clone()
}

/// Ends a process of a container as a crash would. The processes of containers
/// belong to other users.
fn kill(pid: &Value) {
    let pid = pid.to_string();
    let killed = [["kill", "-9"].as_slice(), &["sudo", "-n", "kill", "-9"]].iter().any(|command| {
        let output = Command::new(command[0]).args(&command[1..]).arg(&pid).output();
        output.is_ok_and(|output| output.status.success())
    });
    assert!(
        killed,
        "cannot kill process {pid} of a container: needs root, or sudo without a password"
    );
}

fn docker(arguments: &[&str]) -> String {
    succeed(Command::new("docker").args(arguments))
}

/// Runs a program that must succeed, and returns its standard output.
fn succeed(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", text(&output));
    String::from_utf8(output.stdout).unwrap()
}

fn text(output: &Output) -> String {
    let both = [&output.stdout, &output.stderr];
    both.map(|bytes| String::from_utf8_lossy(bytes).into_owned()).concat()
}

fn wait_for(what: &str, mut is_there: impl FnMut() -> bool) {
    let deadline = Instant::now() + WITHIN;
    while !is_there() {
        assert!(Instant::now() < deadline, "{what}: not there after {WITHIN:?}");
        std::thread::sleep(POLL);
    }
}

/// Nothing listens there, at least now.
fn free_ports() -> [u16; 2] {
    let listeners = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    listeners.map(|listener| listener.local_addr().unwrap().port())
}
