//! `isthmus inject`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

#[derive(Debug, Args)]
pub struct Inject {
    /// The file of objects; `-`: standard input.
    #[arg(short, long, value_name = "FILE")]
    pub file: PathBuf,
    /// The cluster's ConfigMap, or a mesh.yaml, of which the section `injection` is read: no cluster is asked then [default: as
    /// the cluster of --context has them].
    ///
    /// kubectl get configmap isthmus -n isthmus-system -o yaml
    #[arg(long, value_name = "FILE", conflicts_with_all = ["context", "kubeconfig"])]
    pub values: Option<PathBuf>,
    /// The namespace of workloads that name none.
    #[arg(short, long, default_value = "default")]
    pub namespace: String,
    /// How to print the objects.
    #[arg(short, long, value_enum, default_value_t = Written::Yaml)]
    pub output: Written,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Written {
    /// Documents with `---` between; what is no workload as it came.
    Yaml,
    /// Objects one after the other.
    Json,
}
