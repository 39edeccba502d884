//! The agent's page in a browser, and its metrics in Prometheus. These tests count as ignored where the programs are not installed:
//! `cargo xtask setup` installs them.

use std::collections::BTreeMap;
use std::fs::{self, File, Permissions};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{ExitCode, Stdio};

use anyhow::{Context, Result, ensure};
use libtest_mimic::{Arguments, Failed, Trial};
use serde_json::Value;
use tests::eventually;
use tests::topology::{Cluster, Layout, VIP, VIP6, lvsadm_path};

const CHROMIUM: &str = "/usr/bin/chromium";
const PROMETHEUS: &str = "/usr/bin/prometheus";
const PROMTOOL: &str = "/usr/bin/promtool";
const ENDPOINT: &str = "127.0.0.1:9120";
const DATABASE: &str = "127.0.0.1:9090";

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let trial = |name, program: &str, test: fn() -> Result<()>| {
        let ignored = !Path::new(program).exists();
        let reason = if ignored { format!("{program} is not installed") } else { String::new() };
        Trial::test(name, move || test().map_err(|error| Failed::from(format!("{error:#}"))))
            .with_ignored_flag(ignored)
            .with_kind(reason)
    };
    let trials = vec![
        trial("the_page_shows_the_numbers_of_the_listing", CHROMIUM, page),
        trial("prometheus_knows_every_metric_of_rules_and_dashboard", PROMETHEUS, prometheus),
    ];
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// A director that has served something, with an agent that listens.
fn director(arguments: &str) -> Result<Cluster> {
    let cluster = Cluster::new(Layout { servers: 2, ..Layout::default() })?;
    let director = &cluster.director;
    director.sysctl(&["net/ipv4/ip_forward=1", "net/ipv6/conf/all/forwarding=1"])?;
    for (service, scheduler) in [(SocketAddr::new(VIP, 80), "rr"), (SocketAddr::new(VIP6, 80), "wlc")] {
        director.lvsadm(&format!("-A -t {service} -s {scheduler}"))?;
        for number in 1..=2 {
            let (v4, v6) = cluster.server_addresses(number);
            let server = if service.is_ipv4() { v4.to_string() } else { format!("[{v6}]") };
            director.lvsadm(&format!("-a -t {service} -r {server}:80 -m"))?;
        }
    }
    // A service without a real server drops what comes.
    director.lvsadm(&format!("-A -t {VIP}:81 -s rr"))?;
    cluster.client().spread(SocketAddr::new(VIP, 80), 5)?;
    cluster.client().spread(SocketAddr::new(VIP6, 80), 3)?;
    let _ = cluster.client.run(&format!("curl --silent --max-time 0.2 http://{VIP}:81/"));
    let mut agent = director.command(lvsadm_path());
    agent.args(["agent", "--listen", "9120"]).args(arguments.split_whitespace());
    director.adopt(agent.stdout(Stdio::null()).stderr(Stdio::null()))?;
    eventually("the agent listens", || director.fetch(ENDPOINT, "/", "").is_ok());
    Ok(cluster)
}

/// A folder of a test's own, gone when it is dropped.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Result<Self> {
        let path = std::env::temp_dir().join(name);
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path)?;
        Ok(Folder(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The page as Chromium shows it has the counters that `-Ln --stats --exact` prints, of services and of real servers.
fn page() -> Result<()> {
    let cluster = director("")?;
    let director = &cluster.director;
    let profile = Folder::new(&format!("{}-profile", director.name()))?;
    let shown = director.run(&format!(
        "{CHROMIUM} --headless --no-sandbox --disable-gpu --user-data-dir={} --virtual-time-budget=8000 --dump-dom http://{ENDPOINT}/",
        profile.0.display()
    ))?;
    ensure!(shown.contains("role=\"status\">live<"), "the page does not run:\n{shown}");
    let page = rows(&shown);
    let listing = director.lvsadm("-Ln --stats --exact")?;
    let mut service = String::new();
    let mut compared = 0;
    for line in listing.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        // `TCP 10.10.10.10:80 5 30 25 …` or `-> 192.168.122.101:80 3 18 15 …`
        let [kind, name, numbers @ ..] = &words[..] else { continue };
        let Ok(numbers) = numbers.iter().map(|number| number.parse()).collect::<Result<Vec<u64>, _>>() else {
            continue;
        };
        if numbers.len() != 5 {
            continue;
        }
        let of_service = *kind != "->";
        if of_service {
            service = format!("{kind} {name}");
        }
        let name = if of_service { service.clone() } else { format!("{service} -> {name}") };
        ensure!(page.get(&name) == Some(&numbers), "{name}: {numbers:?}, and the page has {:?}", page.get(&name));
        compared += 1;
    }
    ensure!(compared == 7, "{compared} lines of\n{listing}");
    ensure!(page["TCP 10.10.10.10:80"][0] == 5 && page["TCP [2001:db8:a::10]:80"][0] == 3, "{page:?}");
    ensure!(shown.contains("<td>drop-no-server</td>"), "the drops are not shown:\n{shown}");
    Ok(())
}

/// The counters of each row of the page's table of services: of `TCP 10.10.10.10:80`, and `TCP 10.10.10.10:80 -> 192.168.122.101:80`.
fn rows(page: &str) -> BTreeMap<String, Vec<u64>> {
    let table = page.split("<table id=\"services\">").nth(1).and_then(|rest| rest.split("</table>").next());
    let (mut rows, mut service) = (BTreeMap::new(), String::new());
    for row in table.unwrap_or_default().split("<tr ").skip(1) {
        let between = |from: &str, to: char| row.split(from).nth(1).and_then(|rest| rest.split(to).next());
        let Some(name) = between("data-name=\"", '"') else { continue };
        let name = if row.starts_with("class=\"server") {
            format!("{service} -> {name}")
        } else {
            service = name.to_owned();
            service.clone()
        };
        let number = |of: &str| {
            let text = between(&format!("data-of=\"{of}\">"), '<')?;
            text.chars().filter(char::is_ascii_digit).collect::<String>().parse().ok()
        };
        let counters = ["connections", "in_packets", "out_packets", "in_bytes", "out_bytes"];
        rows.insert(name, counters.iter().filter_map(|of| number(of)).collect());
    }
    rows
}

/// Prometheus scrapes the endpoint; every expression of the alert rules and of the dashboard finds something in what it has.
fn prometheus() -> Result<()> {
    const TOKEN: &str = "0123456789abcdef0123456789abcdef";
    let folder = Folder::new(&format!("lvs-prometheus-{}", std::process::id()))?;
    let token = folder.0.join("token");
    fs::write(&token, TOKEN)?;
    fs::set_permissions(&token, Permissions::from_mode(0o600))?;
    let cluster = director(&format!("--token-file {}", token.display()))?;
    let director = &cluster.director;

    // The example's configuration, of this director, and more often.
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/prometheus");
    let mut configuration = fs::read_to_string(examples.join("prometheus.yml"))?;
    for (from, to) in [
        ("director1:9120", ENDPOINT),
        (", \"director2:9120\"", ""),
        ("scrape_interval: 15s", "scrape_interval: 1s"),
        ("/etc/prometheus/lvs.token", &token.display().to_string()),
        ("lvs-alerts.yml", &examples.join("lvs-alerts.yml").display().to_string()),
    ] {
        ensure!(configuration.contains(from), "{from} is not in the example");
        configuration = configuration.replace(from, to);
    }
    let file = folder.0.join("prometheus.yml");
    fs::write(&file, &configuration)?;
    // The configuration and the rules that it names; and the metrics, each with help, type and a name as they should be.
    director.run(&format!("{PROMTOOL} check config {}", file.display()))?;
    let metrics = director.fetch(ENDPOINT, "/metrics", &format!("Authorization: Bearer {TOKEN}\r\n"))?.body;
    fs::write(folder.0.join("metrics"), metrics)?;
    let metrics = File::open(folder.0.join("metrics"))?;
    let checked = director.command(PROMTOOL).args(["check", "metrics"]).stdin(metrics).output()?;
    let said = String::from_utf8_lossy(&checked.stderr);
    // 3 is "there is something to say": node_exporter's names are what they are.
    let faults: Vec<&str> = said.lines().filter(|line| !line.starts_with("node_ipvs_")).collect();
    ensure!(matches!(checked.status.code(), Some(0 | 3)) && faults.is_empty(), "{checked:?}");

    let mut database = director.command(PROMETHEUS);
    database.arg(format!("--config.file={}", file.display()));
    database.arg(format!("--storage.tsdb.path={}", folder.0.join("data").display()));
    database.args(["--web.listen-address", DATABASE]).stdout(Stdio::null()).stderr(Stdio::null());
    director.adopt(&mut database)?;
    let api = |path: &str| -> Result<Value> {
        // Of HTTP 1.0 the answer comes in one piece.
        let reply = director.ask(DATABASE, &format!("GET {path} HTTP/1.0\r\n\r\n"))?.json()?;
        ensure!(reply["status"] == "success", "{path}: {reply}");
        Ok(reply["data"].clone())
    };
    let query = |expression: &str| -> Result<usize> {
        let text: String = expression.bytes().map(|byte| format!("%{byte:02x}")).collect();
        let found = api(&format!("/api/v1/query?query={text}")).with_context(|| expression.to_owned())?;
        Ok(found["result"].as_array().map_or(0, Vec::len))
    };
    // Rates need two scrapes.
    eventually("the director is scraped", || {
        query("count_over_time(lvs_table_room[1m]) >= 3").is_ok_and(|found| found == 2)
    });
    let targets = api("/api/v1/targets")?;
    ensure!(targets["activeTargets"][0]["health"] == "up", "{targets}");

    // An alert is a comparison: what is compared must be there, or the alert would never come.
    let rules = api("/api/v1/rules")?;
    let rules = rules["groups"][0]["rules"].as_array().cloned().context("no rules")?;
    ensure!(rules.len() >= 5, "{rules:?}");
    for rule in &rules {
        ensure!(rule["health"] == "ok" || rule["health"] == "unknown", "{rule}");
        let expression = rule["query"].as_str().context("no expression")?;
        let compared = [" > ", " == ", " < "].into_iter().find_map(|sign| expression.split_once(sign));
        let (left, _) = compared.with_context(|| format!("no comparison: {expression}"))?;
        ensure!(query(left)? != 0, "nothing is compared in {expression}");
        query(expression)?;
    }
    let dashboard: Value = serde_json::from_str(&fs::read_to_string(examples.join("lvs-dashboard.json"))?)?;
    let mut expressions = Vec::new();
    for panel in dashboard["panels"].as_array().context("no panels")? {
        for target in panel["targets"].as_array().into_iter().flatten() {
            expressions.push(target["expr"].as_str().context("no expression")?.to_owned());
        }
    }
    ensure!(expressions.len() >= 10, "{expressions:?}");
    for expression in &expressions {
        let expression = expression.replace("$__rate_interval", "1m").replace("$instance", ".*");
        ensure!(query(&expression)? != 0, "the dashboard would show nothing for {expression}");
    }
    // What Prometheus has is what the listing has.
    ensure!(query("node_ipvs_connections_total == 8")? == 1, "the connections differ");
    Ok(())
}
