//! The sidecar's Pod in podman: the users, read-only file systems and mounts
//! that the manifest says, and the socket between two containers.
//!
//! Not as in Kubernetes: the sidecar is an ordinary container (podman 4.3 knows
//! no other), there are no probes (podman would run `curl` in the container),
//! and directories of the host stand for emptyDir and ConfigMap. The MCP server
//! is an Envoy that answers everything.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::envoys::with_test_keys;
use super::objects::pods;
use super::{at, list, read, text};
use crate::envoy;
use crate::support::{Reply, call, send, token};
use crate::tools::yaml;

const WITHIN: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(50);

fn podman(config: &Path, args: &[&str]) -> String {
    let output = Command::new("podman")
        .args(args)
        .env("CONTAINERS_CONF", config)
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| panic!("install podman, netavark and catatonit: {error}"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "podman {args:?}: {said}");
    String::from_utf8(output.stdout).unwrap()
}

/// A Pod with its images; they go with this value.
struct Pod {
    name: String,
    config: PathBuf,
    dir: tempfile::TempDir,
}

impl Pod {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let config = dir.path().join("containers.conf");
        // podman wants to raise limits that this system may not let it raise.
        let limits = fs::read_to_string("/proc/self/limits").unwrap();
        let hard = |name: &str, at_most: u64| {
            let line = limits.lines().find(|line| line.starts_with(name)).unwrap();
            let hard = line.trim_start_matches(name).split_whitespace().nth(1).unwrap();
            hard.parse().unwrap_or(at_most).min(at_most)
        };
        let (files, processes) = (hard("Max open files", 65536), hard("Max processes", 4096));
        let ulimits = format!("nofile={files}:{files}\", \"nproc={processes}:{processes}");
        fs::write(&config, format!("[containers]\ndefault_ulimits = [\"{ulimits}\"]\n")).unwrap();
        Self { name: format!("mcp-authz-test-{}", std::process::id()), config, dir }
    }

    fn podman(&self, args: &[&str]) -> String {
        podman(&self.config, args)
    }

    fn image(&self, of: &str) -> String {
        format!("localhost/{}-{of}:1", self.name)
    }

    /// An image of a program, the libraries that it is linked with, and nothing else.
    fn build(&self, of: &str, program: &Path) -> String {
        let context = self.dir.path().join(of);
        let inside = |path: &str| {
            let path = context.join("root").join(path.trim_start_matches('/'));
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            path
        };
        fs::copy(program, inside(of)).unwrap();
        let libraries = Command::new("ldd").arg(program).output().unwrap();
        for library in String::from_utf8_lossy(&libraries.stdout).split_whitespace() {
            if library.starts_with('/') {
                fs::copy(library, inside(library)).unwrap();
            }
        }
        fs::write(
            context.join("Containerfile"),
            format!("FROM scratch\nCOPY root/ /\nENV PATH=/\nENTRYPOINT [\"/{of}\"]\n"),
        )
        .unwrap();
        let image = self.image(of);
        self.podman(&["build", "--quiet", "--tag", &image, context.to_str().unwrap()]);
        image
    }

    /// A directory for a volume, as the kubelet makes it of a ConfigMap: files are links
    /// through a link that is swapped.
    fn volume(&self, name: &str, files: &[(&str, &str)]) -> PathBuf {
        let volume = self.dir.path().join("volumes").join(name);
        fs::create_dir_all(&volume).unwrap();
        fs::set_permissions(&volume, Permissions::from_mode(0o777)).unwrap();
        if !files.is_empty() {
            let data = format!("..{}", fs::read_dir(&volume).unwrap().count());
            fs::create_dir(volume.join(&data)).unwrap();
            for (file, text) in files {
                fs::write(volume.join(&data).join(file), text).unwrap();
                let link = volume.join(file);
                if fs::symlink_metadata(&link).is_err() {
                    symlink(Path::new("..data").join(file), link).unwrap();
                }
            }
            symlink(&data, volume.join("..data.new")).unwrap();
            fs::rename(volume.join("..data.new"), volume.join("..data")).unwrap();
        }
        volume
    }

    fn address(&self) -> String {
        let infra =
            self.podman(&["pod", "inspect", &self.name, "--format", "{{.InfraContainerID}}"]);
        let format = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}";
        self.podman(&["inspect", infra.trim(), "--format", format]).trim().to_owned()
    }

    fn logs(&self, container: &str) -> String {
        self.podman(&["logs", &format!("{}-{container}", self.name)])
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        for (what, name) in [
            (["pod", "rm", "--time", "0"].as_slice(), self.name.clone()),
            (&["rmi"], self.image("envoy")),
            (&["rmi"], self.image("mcp-authz")),
        ] {
            let mut podman = Command::new("podman");
            podman.args(what).args(["--force", &name]).env("CONTAINERS_CONF", &self.config);
            let _ended = podman.stdout(Stdio::null()).status();
        }
    }
}

/// The bootstrap of an MCP server that answers everything.
fn server(address: &str, port: &str) -> String {
    json!({"static_resources": {"listeners": [{
        "name": "server",
        "address": {"socket_address": {"address": address, "port_value": port}},
        "filter_chains": [{"filters": [{"name": "http", "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
            "stat_prefix": "server",
            "route_config": {"virtual_hosts": [{"name": "server", "domains": ["*"], "routes": [
                {"match": {"prefix": "/"}, "direct_response": {"status": 200, "body": {"inline_string": "reached"}}},
            ]}]},
            "http_filters": [{"name": "envoy.filters.http.router", "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"}}],
        }}]}],
    }]}})
    .to_string()
}

/// The manifest's Pod as podman can run it.
fn manifest(pod: &Pod) -> Value {
    let objects = yaml::documents(&read("sidecar/deployment.yaml"));
    let template = pods(&objects)[0];
    let mut spec = template["spec"].clone();
    let sidecar = spec.as_object_mut().unwrap().remove("initContainers").unwrap();
    let containers = spec["containers"].as_array_mut().unwrap();
    containers.extend(list(&sidecar).cloned());
    for container in containers {
        let name = text(container, "/name").to_owned();
        let map = container.as_object_mut().unwrap();
        for key in [
            "restartPolicy",
            "startupProbe",
            "readinessProbe",
            "livenessProbe",
            "lifecycle",
            "ports",
        ] {
            map.remove(key);
        }
        let of = if name == "mcp-authz" { "mcp-authz" } else { "envoy" };
        map.insert("image".to_owned(), pod.image(of).into());
        map.insert("imagePullPolicy".to_owned(), "Never".into());
        if name == "mcp-server" {
            map.insert("command".to_owned(), json!(["/envoy"]));
            let args = json!(["--config-path", "/etc/server/server.yaml", "--disable-hot-restart"]);
            map.insert("args".to_owned(), args);
            let mount = json!([{"name": "server", "mountPath": "/etc/server", "readOnly": true}]);
            map.insert("volumeMounts".to_owned(), mount);
        } else if name == "envoy" {
            assert_eq!(map["command"], json!(["envoy"]));
            map.insert("command".to_owned(), json!(["/envoy"]));
        }
    }
    let config = with_test_keys(yaml::document(&read("sidecar/envoy.yaml"))).to_string();
    let server = server("127.0.0.1", "3000");
    let mut volumes = Vec::new();
    for volume in list(&template["spec"]["volumes"]).chain([&json!({"name": "server"})]) {
        let name = text(volume, "/name");
        let files = match name {
            "policy" => vec![("policy.yaml", read("sidecar/policy.yaml"))],
            "envoy" => vec![("envoy.yaml", config.clone())],
            "server" => vec![("server.yaml", server.clone())],
            _ => vec![],
        };
        let files: Vec<(&str, &str)> =
            files.iter().map(|(file, text)| (*file, text.as_str())).collect();
        let dir = pod.volume(name, &files);
        volumes.push(json!({"name": name, "hostPath": {"path": dir, "type": "Directory"}}));
    }
    spec["volumes"] = volumes.into();
    let map = spec.as_object_mut().unwrap();
    map.remove("topologySpreadConstraints");
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": pod.name}, "spec": spec})
}

/// Says something until it is answered so.
async fn until(what: impl Fn() -> reqwest::RequestBuilder, good: impl Fn(&Reply) -> bool) -> bool {
    let deadline = Instant::now() + WITHIN;
    while Instant::now() < deadline {
        if let Ok(response) = what().send().await {
            let (status, headers) = (response.status().as_u16(), response.headers().clone());
            let body = response.text().await.unwrap();
            if good(&Reply { status, headers, body }) {
                return true;
            }
        }
        tokio::time::sleep(POLL).await;
    }
    false
}

#[tokio::test]
#[ignore = "needs podman, netavark and catatonit (Debian packages), as root: cargo test --locked -- --ignored"]
async fn calls_go_through_the_pod() {
    let pod = Pod::new();
    pod.build("envoy", &envoy::find(|text| eprintln!("{text}")).unwrap());
    pod.build("mcp-authz", Path::new(env!("CARGO_BIN_EXE_mcp-authz")));
    let file = pod.dir.path().join("pod.json");
    fs::write(&file, manifest(&pod).to_string()).unwrap();
    pod.podman(&["kube", "play", file.to_str().unwrap()]);
    let host = pod.address();
    let http = reqwest::Client::new();
    let post = |caller: Option<&str>, greeting: &str| {
        let request = http
            .post(format!("http://{host}:8080/mcp"))
            .header("content-type", "application/json")
            .body(call("echo", &json!({"text": greeting})));
        match caller {
            Some(scope) => request.bearer_auth(token(scope)),
            None => request,
        }
    };
    let ready = until(|| post(Some("echo"), "Hello!"), |reply| reply.body == "reached").await;
    assert!(ready, "{}\n{}", pod.logs("mcp-authz"), pod.logs("envoy"));
    assert_eq!(send(post(Some("echo"), "Bye")).await.refusal().0, 403);
    assert_eq!(send(post(Some("sum"), "Hello!")).await.refusal().0, 403);
    assert_eq!(send(post(None, "Hello!")).await.refusal().0, 401);
    // What the kubelet and Prometheus ask for from outside the Pod.
    for page in
        ["8081/ready", "8081/stats/prometheus", "9002/readyz", "9002/healthz", "9002/metrics"]
    {
        let reply = send(http.get(format!("http://{host}:{page}"))).await;
        assert_eq!(reply.status, 200, "{page}: {reply:?}");
    }
    // The rest of Envoy's admin interface, and the server, are nobody's.
    assert_eq!(send(http.get(format!("http://{host}:8081/config_dump"))).await.status, 404);
    assert!(http.get(format!("http://{host}:3000/")).send().await.is_err());
    // Envoy writes its access log when it likes.
    let deadline = Instant::now() + WITHIN;
    while !pod.logs("envoy").contains(r#""verdict":"Deny""#) {
        assert!(Instant::now() < deadline, "{}", pod.logs("envoy"));
        tokio::time::sleep(POLL).await;
    }
    // An update of the ConfigMap.
    let policy =
        read("sidecar/policy.yaml").replace(r#"startsWith("Hello")"#, r#"startsWith("Bye")"#);
    pod.volume("policy", &[("policy.yaml", &policy)]);
    assert!(until(|| post(Some("echo"), "Bye"), |reply| reply.body == "reached").await);
    assert_eq!(send(post(Some("echo"), "Hello!")).await.refusal().0, 403);
    // As the manifest says.
    for name in ["mcp-authz", "envoy", "mcp-server"] {
        let format = "{{json .HostConfig.ReadonlyRootfs}} {{len .EffectiveCaps}} {{.Config.User}}";
        let seen = pod.podman(&["inspect", &format!("{}-{name}", pod.name), "--format", format]);
        let user = at(
            &json!({"mcp-authz": "65532:65532", "envoy": "101:101", "mcp-server": "10001:10001"}),
            &format!("/{name}"),
        )
        .clone();
        assert_eq!(seen.trim(), format!("true 0 {}", user.as_str().unwrap()));
    }
}
