CREATE INDEX pulse_mails_address ON pulse_mails (address, created);
