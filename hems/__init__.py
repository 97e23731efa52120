"""The home energy management system: measurements, forecast, plan, bid, and the slot's delivery.

`hems.home.HomeEnergyManager` is what a node uses; `hems.neighbourhood` makes the configurations of
many homes. Everything below is functions over arrays. Imports none of the other packages.
"""
