BEGIN TRANSACTION;
CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "alembic_version" VALUES('0001');
CREATE TABLE annotation (
	id INTEGER NOT NULL, 
	scene_id INTEGER NOT NULL, 
	x1 DOUBLE NOT NULL, 
	y1 DOUBLE NOT NULL, 
	x2 DOUBLE NOT NULL, 
	y2 DOUBLE NOT NULL, 
	label INTEGER NOT NULL, 
	source VARCHAR(64) NOT NULL, 
	annotator VARCHAR(128), 
	seconds DOUBLE, 
	version INTEGER NOT NULL, 
	state VARCHAR(16) NOT NULL, 
	created FLOAT NOT NULL, 
	PRIMARY KEY (id), 
	FOREIGN KEY(scene_id) REFERENCES scene (id)
);
CREATE TABLE label_set (
	id INTEGER NOT NULL, 
	names JSON NOT NULL, 
	fingerprint VARCHAR(16) NOT NULL, 
	PRIMARY KEY (id)
);
INSERT INTO "label_set" VALUES(1,'["car", "ship"]','0123456789abcdef');
CREATE TABLE ledger (
	id INTEGER NOT NULL, 
	at FLOAT NOT NULL, 
	kind VARCHAR(32) NOT NULL, 
	details JSON NOT NULL, 
	PRIMARY KEY (id)
);
INSERT INTO "ledger" VALUES(1,1.0,'ingest','{"tiles": 1}');
CREATE TABLE model (
	id INTEGER NOT NULL, 
	name VARCHAR(128) NOT NULL, 
	stage VARCHAR(16) NOT NULL, 
	parent_id INTEGER, 
	config JSON NOT NULL, 
	label_set_fingerprint VARCHAR(16), 
	data_hash VARCHAR(64) NOT NULL, 
	metrics JSON NOT NULL, 
	created FLOAT NOT NULL, 
	PRIMARY KEY (id), 
	FOREIGN KEY(parent_id) REFERENCES model (id), 
	UNIQUE (name)
);
CREATE TABLE prediction_set (
	id INTEGER NOT NULL, 
	model_id INTEGER NOT NULL, 
	name VARCHAR(128) NOT NULL, 
	tiles INTEGER NOT NULL, 
	created FLOAT NOT NULL, 
	PRIMARY KEY (id), 
	FOREIGN KEY(model_id) REFERENCES model (id), 
	UNIQUE (name)
);
CREATE TABLE remote_task (
	id INTEGER NOT NULL, 
	tile_id INTEGER NOT NULL, 
	server VARCHAR(512) NOT NULL, 
	remote_id VARCHAR(64) NOT NULL, 
	content_hash VARCHAR(64) NOT NULL, 
	PRIMARY KEY (id), 
	FOREIGN KEY(tile_id) REFERENCES tile (id), 
	UNIQUE (server, remote_id)
);
CREATE TABLE review (
	id INTEGER NOT NULL, 
	tile_id INTEGER NOT NULL, 
	"by" VARCHAR(128) NOT NULL, 
	seconds DOUBLE, 
	created FLOAT NOT NULL, 
	PRIMARY KEY (id), 
	FOREIGN KEY(tile_id) REFERENCES tile (id), 
	UNIQUE (tile_id)
);
CREATE TABLE round (
	id INTEGER NOT NULL, 
	number INTEGER NOT NULL, 
	budget_seconds DOUBLE NOT NULL, 
	strategy VARCHAR(32) NOT NULL, 
	seed INTEGER NOT NULL, 
	prediction_set_id INTEGER, 
	state VARCHAR(16) NOT NULL, 
	estimated_seconds DOUBLE NOT NULL, 
	measured_seconds DOUBLE, 
	metrics JSON NOT NULL, 
	created FLOAT NOT NULL, 
	PRIMARY KEY (id), 
	FOREIGN KEY(prediction_set_id) REFERENCES prediction_set (id), 
	UNIQUE (number)
);
CREATE TABLE round_tile (
	round_id INTEGER NOT NULL, 
	tile_id INTEGER NOT NULL, 
	position INTEGER NOT NULL, 
	score DOUBLE NOT NULL, 
	estimated_seconds DOUBLE NOT NULL, 
	measured_seconds DOUBLE, 
	reasons JSON NOT NULL, 
	PRIMARY KEY (round_id, tile_id), 
	FOREIGN KEY(round_id) REFERENCES round (id), 
	FOREIGN KEY(tile_id) REFERENCES tile (id)
);
CREATE TABLE scene (
	id INTEGER NOT NULL, 
	source_id INTEGER NOT NULL, 
	name VARCHAR(1024) NOT NULL, 
	content_hash VARCHAR(64) NOT NULL, 
	path VARCHAR(4096) NOT NULL, 
	referenced BOOLEAN NOT NULL, 
	width INTEGER NOT NULL, 
	height INTEGER NOT NULL, 
	bands INTEGER NOT NULL, 
	dtype VARCHAR(16) NOT NULL, 
	crs_wkt VARCHAR, 
	transform JSON, 
	ground_sample_distance DOUBLE, 
	captured VARCHAR(64), 
	split VARCHAR(8), 
	ground_x1 DOUBLE, 
	ground_y1 DOUBLE, 
	ground_x2 DOUBLE, 
	ground_y2 DOUBLE, 
	PRIMARY KEY (id), 
	FOREIGN KEY(source_id) REFERENCES source (id), 
	UNIQUE (content_hash)
);
CREATE TABLE scene_alias (
	id INTEGER NOT NULL, 
	scene_id INTEGER NOT NULL, 
	source_id INTEGER NOT NULL, 
	name VARCHAR(1024) NOT NULL, 
	PRIMARY KEY (id), 
	FOREIGN KEY(scene_id) REFERENCES scene (id), 
	FOREIGN KEY(source_id) REFERENCES source (id), 
	UNIQUE (source_id, name)
);
CREATE TABLE set_aside (
	id INTEGER NOT NULL, 
	source_id INTEGER NOT NULL, 
	name VARCHAR(1024) NOT NULL, 
	reason VARCHAR NOT NULL, 
	PRIMARY KEY (id), 
	FOREIGN KEY(source_id) REFERENCES source (id), 
	UNIQUE (source_id, name)
);
CREATE TABLE source (
	id INTEGER NOT NULL, 
	name VARCHAR(512) NOT NULL, 
	kind VARCHAR(16) NOT NULL, 
	identity VARCHAR(512) NOT NULL, 
	config JSON NOT NULL, 
	state VARCHAR(16) NOT NULL, 
	created FLOAT NOT NULL, 
	PRIMARY KEY (id), 
	UNIQUE (identity)
);
INSERT INTO "source" VALUES(1,'flight.zip','zip','abc','{}','done',1.0);
CREATE TABLE split_rule (
	id INTEGER NOT NULL, 
	config JSON NOT NULL, 
	PRIMARY KEY (id)
);
CREATE TABLE tile (
	id INTEGER NOT NULL, 
	scene_id INTEGER NOT NULL, 
	x INTEGER NOT NULL, 
	y INTEGER NOT NULL, 
	width INTEGER NOT NULL, 
	height INTEGER NOT NULL, 
	content_hash VARCHAR(64) NOT NULL, 
	split VARCHAR(8) NOT NULL, 
	PRIMARY KEY (id), 
	FOREIGN KEY(scene_id) REFERENCES scene (id), 
	UNIQUE (scene_id, x, y, width, height)
);
CREATE INDEX scene_by_ground ON scene (ground_x1, ground_x2);
CREATE INDEX ix_set_aside_source_id ON set_aside (source_id);
CREATE INDEX annotation_by_scene ON annotation (scene_id, state);
CREATE INDEX ix_scene_alias_scene_id ON scene_alias (scene_id);
CREATE INDEX ix_tile_content_hash ON tile (content_hash);
CREATE INDEX ix_tile_scene_id ON tile (scene_id);
CREATE INDEX ix_tile_split ON tile (split);
COMMIT;
