"""Agents: how a home trades, chosen by name in its settings; docs/hems.md, "Agents".

`base` is the interface, `registry` finds an agent by its name (also one's own, by entry point),
`desk` stands between an agent and its home. The others are an agent each.
"""
