//! The files of a project: `runtm.yaml`, requests and discovery.
