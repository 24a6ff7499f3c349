//! The contracts of agents: results, events as `agent.*`, structured output, mapping tables of vendors.
