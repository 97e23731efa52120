"""CE-SDT (Wang et al. 2023), section 4: a community's day by requests and offers."""
