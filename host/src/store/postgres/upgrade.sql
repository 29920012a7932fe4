-- From format 1 to 2. Keys of a hub of format 1 do not contain a partition: it keeps one.
ALTER TABLE owner ADD COLUMN at bigint NOT NULL DEFAULT 0;
ALTER TABLE owner ADD COLUMN version bigint NOT NULL DEFAULT 0;
ALTER TABLE owner ADD COLUMN url text;
ALTER TABLE command ADD COLUMN partition smallint NOT NULL DEFAULT 0;
DELETE FROM partition WHERE partition > 0;
UPDATE hub SET partitions = 1, format = 2;
