pub mod bypass;
pub mod families;
pub mod fullnat;
pub mod nat;
pub mod pipeline;
pub mod tunnel;
