//! What `attach` and `detach` make of the devices, before they are carried out.

use lvs_director::dataplane::{Attachment, Defaults, Error, Headers, NetDevice, Result};
use lvs_director::rules::AttachMode;
use lvs_director::rules::{Attached, Rule};

/// The device that is attached with whatever is.
const LOOPBACK: &str = "lo";

/// A device, as far as it matters to which are attached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// Its name.
    pub name: String,
    /// Whether it is up.
    pub up: bool,
    /// Whether it is attached to without being named, once it is up.
    pub usual: bool,
    /// Why it cannot be served, if it cannot.
    pub unservable: Option<String>,
    /// Whether it can be served by TC only.
    pub tc_only: bool,
    /// Whether `auto` takes XDP in its driver.
    pub native: bool,
    /// Whether the kernel has refused XDP on it.
    pub refused: bool,
    /// How it is attached, `None` if it is not.
    pub attached: Option<Attached>,
}

impl Device {
    /// The error of attaching it, if it cannot be served.
    fn refusal(&self) -> Option<Error> {
        Some(Error::Unservable { device: self.name.clone(), reason: self.unservable.clone()? })
    }
}

/// The devices as they are.
pub fn current(devices: &[NetDevice], attachments: &[Attachment]) -> Vec<Device> {
    let device = |d: &NetDevice| {
        let attachment = attachments.iter().find(|a| a.device == d.link.name);
        Device {
            name: d.link.name.clone(),
            up: d.link.up,
            usual: d.link.is_usual(),
            unservable: d.link.unservable.clone(),
            tc_only: d.link.headers == Headers::Ip,
            native: d.xdp_everywhere,
            refused: attachment.is_some_and(|a| a.refused),
            attached: attachment.map(|a| a.attached),
        }
    };
    devices.iter().map(device).collect()
}

/// `attach`: those that are named, or the default ones, these by TC where the kernel has refused XDP.
pub fn attach(devices: &mut [Device], names: &[String], mode: Option<AttachMode>, defaults: &Defaults) -> Result<()> {
    check(devices, names)?;
    if let Some(refusal) = devices.iter().filter(|d| names.contains(&d.name)).find_map(Device::refusal) {
        return Err(refusal);
    }
    let demanded = !names.is_empty();
    let names = if demanded { names } else { &defaults.devices };
    for device in devices.iter_mut() {
        let chosen = if names.is_empty() { device.up && device.usual } else { names.contains(&device.name) };
        if chosen {
            device.attached = Some(match (mode.unwrap_or(defaults.mode), device.attached) {
                _ if device.tc_only && !demanded => Attached::Tc,
                (_, Some(Attached::Tc)) if device.refused && !demanded => Attached::Tc,
                (AttachMode::Native, _) => Attached::Native,
                (AttachMode::Generic, _) => Attached::Generic,
                (AttachMode::Tc, _) => Attached::Tc,
                (AttachMode::Auto, _) if device.native => Attached::Native,
                (AttachMode::Auto, Some(asked @ (Attached::Native | Attached::Generic))) => asked,
                (AttachMode::Auto, _) => Attached::Tc,
            });
        }
        if device.name == LOOPBACK {
            device.attached = device.attached.or(Some(Attached::Egress));
        }
    }
    Ok(())
}

/// `detach`: those that are named, or all.
pub fn detach(devices: &mut [Device], names: &[String]) -> Result<()> {
    check(devices, names)?;
    for device in devices.iter_mut().filter(|device| names.is_empty() || names.contains(&device.name)) {
        device.attached = None;
    }
    Ok(())
}

/// Whether all devices of these names are there.
fn check(devices: &[Device], names: &[String]) -> Result<()> {
    match names.iter().find(|name| !devices.iter().any(|device| device.name == **name)) {
        Some(name) => Err(Error::NoDevice(name.clone())),
        None => Ok(()),
    }
}

/// The attached devices as rules.
pub fn rules(devices: &[Device]) -> impl Iterator<Item = Rule> {
    devices.iter().filter_map(|device| Some(Rule::Device(device.name.clone(), device.attached?)))
}

/// The lines that make the devices what they are, whatever they were: the default, where that can be had, and what differs
/// from it. The first that attaches also has `options`, which say how to load.
pub fn save(devices: &[Device], defaults: &Defaults, options: &str) -> Vec<String> {
    let mut made = devices.to_vec();
    made.iter_mut().for_each(|device| device.attached = None);
    let mut lines = vec!["detach".to_owned()];
    if attach(&mut made, &[], None, defaults).is_ok() {
        lines.push("attach".to_owned());
    }
    for (is, would_be) in devices.iter().zip(&made) {
        match is.attached {
            same if same == would_be.attached => {}
            // With any other device.
            Some(Attached::Egress) => {}
            Some(attached) => lines.push(line(&is.name, attached)),
            None => lines.push(format!("detach --dev {}", is.name)),
        }
    }
    if let Some(first) = lines.iter_mut().find(|line| line.starts_with("attach")) {
        *first = first.replacen("attach", &format!("attach{options}"), 1);
    }
    lines
}

/// The line that attaches a device so.
pub fn line(name: &str, attached: Attached) -> String {
    match attached {
        Attached::Egress => format!("attach # {name}, with any other"),
        _ => format!("attach --mode {} --dev {name}", attached.name()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lvs_director::dataplane::{Loading, Sizes};
    use lvs_director::rules::LogLevel;

    fn defaults(devices: &[&str]) -> Defaults {
        Defaults {
            devices: devices.iter().map(|name| (*name).to_owned()).collect(),
            mode: AttachMode::Auto,
            loading: Loading { sizes: Sizes::of_host(), verifier_log: false, log: LogLevel::Off },
        }
    }

    /// `lo`, a card with a driver for XDP, a veth, a WireGuard device, a card without a cable, and a port of a bond.
    fn devices() -> Vec<Device> {
        let device = |name: &str, up, usual, native| Device {
            name: name.to_owned(),
            up,
            usual,
            unservable: (name == "eth8").then(|| "it is a port of bond0".to_owned()),
            tc_only: name == "wg0",
            native,
            refused: false,
            attached: None,
        };
        vec![
            device("lo", true, false, false),
            device("eth0", true, true, true),
            device("veth1", true, true, false),
            device("wg0", true, true, false),
            device("eth9", false, true, true),
            device("eth8", true, false, true),
        ]
    }

    fn attached(devices: &[Device]) -> Vec<Option<Attached>> {
        devices.iter().map(|device| device.attached).collect()
    }

    #[test]
    fn the_default_is_every_device_that_is_up_and_can_be_served() {
        let mut all = devices();
        attach(&mut all, &[], None, &defaults(&[])).unwrap();
        let tc = Some(Attached::Tc);
        assert_eq!(attached(&all), [Some(Attached::Egress), Some(Attached::Native), tc, tc, None, None]);
        let native = Some(AttachMode::Native);
        assert_eq!(attach(&mut all.clone(), &[], native, &defaults(&[])).map(|()| all[3].attached).unwrap(), tc);
        let refused = attach(&mut all.clone(), &["eth8".to_owned()], None, &defaults(&[])).unwrap_err();
        assert_eq!(refused.line(), "cannot attach to eth8: it is a port of bond0");
        assert_eq!(save(&all, &defaults(&[]), ""), ["detach", "attach"]);
        attach(&mut all, &["eth9".to_owned()], Some(AttachMode::Tc), &defaults(&[])).unwrap();
        detach(&mut all, &["lo".to_owned()]).unwrap();
        assert_eq!(
            save(&all, &defaults(&[]), " --conns 1000"),
            ["detach", "attach --conns 1000", "detach --dev lo", "attach --mode tc --dev eth9"]
        );
        let sentence = "there is no device eth7: see `ip link`";
        assert_eq!(detach(&mut all, &["eth7".to_owned()]).unwrap_err().line(), sentence);
    }

    #[test]
    fn saved_lines_make_the_same_again_whatever_is_attached() {
        let ways = [None, Some(Attached::Native), Some(Attached::Generic), Some(Attached::Tc)];
        for (defaults, seed) in [&[][..], &["veth1"], &["eth7"]].into_iter().map(defaults).zip(0..) {
            for way in 0..ways.len().pow(4) {
                let mut all = devices();
                for (at, device) in all.iter_mut().skip(1).enumerate() {
                    device.attached = ways[way / ways.len().pow(at as u32) % ways.len()];
                }
                let any = all.iter().any(|device| device.attached.is_some());
                all[0].attached = any.then_some(Attached::Egress);
                let mut made = devices();
                made.iter_mut().zip(&ways).for_each(|(device, way)| device.attached = *way);
                for line in save(&all, &defaults, "") {
                    let words: Vec<&str> = line.split(' ').collect();
                    let value = |name| words.iter().position(|word| *word == name).map(|at| words[at + 1]);
                    let names: Vec<String> = value("--dev").into_iter().map(str::to_owned).collect();
                    match words[0] {
                        "detach" => detach(&mut made, &names).unwrap(),
                        _ => {
                            let mode = value("--mode").map(|mode| match mode {
                                "native" => AttachMode::Native,
                                "generic" => AttachMode::Generic,
                                _ => AttachMode::Tc,
                            });
                            attach(&mut made, &names, mode, &defaults).unwrap();
                        }
                    }
                }
                assert_eq!(attached(&made), attached(&all), "{seed}");
            }
        }
    }
}
