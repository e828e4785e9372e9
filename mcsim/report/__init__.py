"""The page: findings, protocol, template."""
