"""The measurements that the README and docs/ quote, each a command of its own."""
