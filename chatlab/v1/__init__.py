"""Generated from ``protos/chatlab/v1``: the wire contract. Never edited by hand."""
