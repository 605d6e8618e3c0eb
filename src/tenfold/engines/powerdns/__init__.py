"""The name server: PowerDNS, which tells each client the nearest healthy region."""
