//! Debian's nginx, unmodified.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::Result;

use super::namespace::Namespace;
use crate::eventually;

/// An nginx that answers every request with its client's address and port, and logs them. Dropped, its files go; the process
/// ends with its namespace.
pub struct Nginx(PathBuf);

impl Nginx {
    /// Starts `command`, which is to run nginx in `host`, with these `listen` directives.
    pub fn start(host: &Namespace, mut command: Command, listen: &[&str]) -> Result<Self> {
        let folder = std::env::temp_dir().join(host.name());
        fs::create_dir_all(&folder)?;
        let listen: String = listen.iter().map(|listen| format!("listen {listen}; ")).collect();
        let configuration = format!(
            "daemon off; worker_processes 2; user root; pid {0}/pid; error_log {0}/error.log;
             events {{ worker_connections 64; }}
             http {{
                 log_format peer '$remote_addr $remote_port';
                 access_log {0}/access.log peer;
                 access_log {0}/combined.log;
                 client_body_temp_path {0}/1; proxy_temp_path {0}/2; fastcgi_temp_path {0}/3;
                 uwsgi_temp_path {0}/4; scgi_temp_path {0}/5;
                 server {{ {listen} location / {{ return 200 '$remote_addr $remote_port'; }} }}
             }}",
            folder.display()
        );
        let path = folder.join("nginx.conf");
        fs::write(&path, configuration)?;
        let nginx = Nginx(folder);
        command.args(["-e", "stderr", "-c"]).arg(&path);
        host.adopt(command.stdout(Stdio::null()).stderr(Stdio::null()))?;
        Ok(nginx)
    }

    /// The lines of its log as nginx writes them where nothing else is configured. Waits until they are as many as `count`.
    pub fn log(&self, count: usize) -> Vec<String> {
        self.lines("combined.log", count)
    }

    /// The clients that it has logged, each `ADDRESS PORT`, in any order: workers write in their own time. Waits until they are
    /// as many as `count`.
    pub fn clients(&self, count: usize) -> Vec<String> {
        self.lines("access.log", count)
    }

    fn lines(&self, file: &str, count: usize) -> Vec<String> {
        let logged = || fs::read_to_string(self.0.join(file)).unwrap_or_default();
        eventually("all is logged", || logged().lines().count() >= count);
        logged().lines().map(str::to_owned).collect()
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // Another user's files in it are no reason to fail.
        let _ = fs::remove_dir_all(&self.0);
    }
}
