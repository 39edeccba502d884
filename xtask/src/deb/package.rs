//! The two packages: what is in each.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::bill::bill;
use super::tree::Tree;
use crate::build;
use crate::process::{announce, host_cargo, output, root, run as run_program, target_dir};

/// The version of the packages: the workspace's.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// A file of the folder `packaging`.
macro_rules! packaging {
    ($path:literal) => {
        include_str!(concat!("../../../packaging/", $path))
    };
}

/// The packages, in the order in which they can be installed.
pub struct Packages {
    /// Everything but ipvsadm's names.
    pub lvsadm: PathBuf,
    /// ipvsadm's names.
    pub ipvsadm: PathBuf,
}

/// Packs what [`build::build`] has built.
pub fn package() -> Result<Packages> {
    announce("packing");
    let folder = target_dir().join("debian");
    let manual = folder.join("manual");
    run_program(host_cargo().args(["run", "--quiet", "--package", "manual", "--"]).arg(&manual))?;
    let machine = Machine::this()?;
    remove_old(&folder)?;
    let packages = Packages {
        lvsadm: folder.join(format!("lvsadm_{VERSION}_{}.deb", machine.architecture)),
        ipvsadm: folder.join(format!("ipvsadm-is-lvsadm_{VERSION}_all.deb")),
    };
    pack_lvsadm(&folder, &manual, &machine, &packages.lvsadm)?;
    pack_ipvsadm(&folder, &manual, &packages.ipvsadm)?;
    Ok(packages)
}

/// Removes packages of another version, which would be taken for these.
fn remove_old(folder: &Path) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "deb") {
            fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
        }
    }
    Ok(())
}

/// What Debian calls this machine.
struct Machine {
    architecture: String,
    /// Name of the folder of libraries.
    multiarch: String,
}

impl Machine {
    fn this() -> Result<Self> {
        let ask = |what: &str| {
            let answer = output(Command::new("dpkg-architecture").args(["-q", what]));
            answer.map(|text| text.trim().to_owned()).with_context(|| format!("dpkg-architecture does not tell {what}"))
        };
        Ok(Machine { architecture: ask("DEB_HOST_ARCH")?, multiarch: ask("DEB_HOST_MULTIARCH")? })
    }
}

fn pack_lvsadm(folder: &Path, manual: &Path, machine: &Machine, package: &Path) -> Result<()> {
    let mut tree = Tree::new(folder.join("lvsadm"))?;
    let library = format!("/usr/lib/{}", machine.multiarch);
    let binaries = [build::lvsadm(), build::lvs_compat()];
    tree.program("/usr/sbin/lvsadm", read(&binaries[0])?)?;
    tree.file(&format!("{library}/liblvs_compat.so"), read(&binaries[1])?)?;
    tree.program("/usr/libexec/lvsadm/rules", packaging!("lvsadm/rules"))?;
    tree.conffile("/etc/default/lvsadm", packaging!("lvsadm/default"))?;
    tree.conffile("/etc/default/lvsadm-agent", packaging!("lvsadm/default-agent"))?;
    tree.conffile("/etc/default/lvsadm-real-server", packaging!("lvsadm/default-real-server"))?;
    tree.conffile("/etc/fail2ban/action.d/lvsadm.conf", packaging!("lvsadm/fail2ban.conf"))?;
    let units = "/usr/lib/systemd/system";
    tree.file(&format!("{units}/lvsadm.service"), packaging!("lvsadm/lvsadm.service"))?;
    tree.file(&format!("{units}/lvsadm-agent.service"), packaging!("lvsadm/lvsadm-agent.service"))?;
    tree.file(&format!("{units}/lvsadm-real-server.service"), packaging!("lvsadm/lvsadm-real-server.service"))?;
    tree.file(&format!("{units}/run-lvs-bpf.mount"), packaging!("lvsadm/run-lvs-bpf.mount"))?;
    let keepalived = packaging!("lvsadm/keepalived.conf").replace("@LIBDIR@", &library);
    tree.file(&format!("{units}/keepalived.service.d/lvsadm.conf"), keepalived)?;
    for path in [
        "bash-completion/completions/lvsadm",
        "zsh/vendor-completions/_lvsadm",
        "fish/vendor_completions.d/lvsadm.fish",
    ] {
        tree.file(&format!("/usr/share/{path}"), read(&manual.join(path))?)?;
    }
    pages(&tree, manual, |page| page.starts_with("lvsadm"))?;
    tree.file("/usr/share/doc/lvsadm/README.md", read(&root().join("README.md"))?)?;
    for folder in ["docs", "examples"] {
        documents(&tree, Path::new(folder))?;
    }
    copyright(&tree, "lvsadm")?;
    tree.file("/usr/share/doc/lvsadm/lvsadm.cdx.json", bill()?)?;
    let control = packaging!("lvsadm/control")
        .replace("@VERSION@", VERSION)
        .replace("@ARCHITECTURE@", &machine.architecture)
        .replace("@DEPENDS@", &dependencies(folder, &binaries)?);
    let scripts = [
        ("postinst", packaging!("lvsadm/postinst")),
        ("prerm", packaging!("lvsadm/prerm")),
        ("postrm", packaging!("lvsadm/postrm")),
    ];
    tree.build(&control, &scripts, package)
}

fn pack_ipvsadm(folder: &Path, manual: &Path, package: &Path) -> Result<()> {
    let tree = Tree::new(folder.join("ipvsadm-is-lvsadm"))?;
    for name in ["ipvsadm", "ipvsadm-save", "ipvsadm-restore"] {
        // Where Debian's ipvsadm has them, so that dpkg knows which file replaces which.
        tree.link(&format!("/sbin/{name}"), "/usr/sbin/lvsadm")?;
    }
    // The unit that systemd makes of an init script which Debian's ipvsadm leaves behind has this name, and loses it.
    tree.link("/usr/lib/systemd/system/ipvsadm.service", "lvsadm.service")?;
    pages(&tree, manual, |page| page.starts_with("ipvsadm"))?;
    copyright(&tree, "ipvsadm-is-lvsadm")?;
    let control = packaging!("ipvsadm-is-lvsadm/control").replace("@VERSION@", VERSION);
    let scripts =
        [("postinst", packaging!("ipvsadm-is-lvsadm/postinst")), ("postrm", packaging!("ipvsadm-is-lvsadm/postrm"))];
    tree.build(&control, &scripts, package)
}

/// Puts those man pages there whose names are `wanted`.
fn pages(tree: &Tree, manual: &Path, wanted: impl Fn(&str) -> bool) -> Result<()> {
    for section in ["man7", "man8"] {
        let folder = manual.join("man").join(section);
        for entry in fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            if wanted(&name) {
                tree.compressed(&format!("/usr/share/man/{section}/{name}"), read(&folder.join(&name))?)?;
            }
        }
    }
    Ok(())
}

/// Puts a folder of documents there, with what is below it.
fn documents(tree: &Tree, folder: &Path) -> Result<()> {
    for entry in fs::read_dir(root().join(folder)).with_context(|| format!("cannot read {}", folder.display()))? {
        let entry = entry?;
        let path = folder.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            documents(tree, &path)?;
        } else {
            tree.file(&format!("/usr/share/doc/lvsadm/{}", path.display()), read(&root().join(&path))?)?;
        }
    }
    Ok(())
}

/// Puts the licences there, in the form that Debian wants.
fn copyright(tree: &Tree, package: &str) -> Result<()> {
    let licence = fs::read_to_string(root().join("LICENSE-MIT")).context("cannot read LICENSE-MIT")?;
    let terms = licence.lines().skip_while(|line| !line.starts_with("Permission"));
    let terms: Vec<String> =
        terms.map(|line| if line.is_empty() { " .".to_owned() } else { format!(" {line}") }).collect();
    let text = packaging!("copyright").replace("@MIT@", &terms.join("\n"));
    tree.file(&format!("/usr/share/doc/{package}/copyright"), text)
}

/// The packages whose libraries the binaries need, and in which version.
fn dependencies(folder: &Path, binaries: &[PathBuf]) -> Result<String> {
    // dpkg-shlibdeps wants to be in a source package.
    let source = folder.join("source");
    fs::create_dir_all(source.join("debian"))?;
    fs::write(source.join("debian/control"), "Source: lvsadm\n\nPackage: lvsadm\nArchitecture: any\n")?;
    let answer = output(Command::new("dpkg-shlibdeps").arg("-O").args(binaries).current_dir(&source));
    let answer = answer.context("dpkg-shlibdeps does not tell what the binaries need")?;
    match answer.trim().strip_prefix("shlibs:Depends=") {
        Some(packages) => Ok(packages.to_owned()),
        None => bail!("dpkg-shlibdeps says `{}'", answer.trim()),
    }
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}
