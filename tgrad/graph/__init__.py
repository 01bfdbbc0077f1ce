"""The graph: what to compute. Nodes, their rules, and an interpreter that is the oracle."""
