PRAGMA application_id = 1685349681;
PRAGMA user_version = 4;
BEGIN TRANSACTION;
CREATE TABLE call (  -- of jobs waiting and ended: calls that were handed out, or have ended
    job INTEGER NOT NULL,
    name TEXT NOT NULL,
    state TEXT,                 -- how it ended; NULL if it has not
    attempts INTEGER NOT NULL,
    failures INTEGER NOT NULL,
    lost INTEGER NOT NULL,
    lease INTEGER NOT NULL,     -- of the worker that has it; 0 for none
    lease_s REAL NOT NULL,
    worker TEXT NOT NULL,
    started_at REAL,
    ended_at REAL,
    resumes_at REAL,
    value TEXT,                 -- JSON; a BLOB if it is not UTF-8
    error TEXT, dialect TEXT, trace TEXT,
    PRIMARY KEY (job, name)
) WITHOUT ROWID;
INSERT INTO "call" VALUES(10,'fibonacci@1','succeeded',1,0,0,0,0.0,'worker-1',1.79603522520688414568e+09,1.79603522550889706612e+09,NULL,'832040',NULL,'',NULL);
INSERT INTO "call" VALUES(11,'call','succeeded',1,0,0,0,0.0,'worker-1',1.79603522520935511585e+09,1.79603522550446629527e+09,NULL,'"ß\u0000🙂"',NULL,'',NULL);
INSERT INTO "call" VALUES(12,'call','failed',1,1,0,0,0.0,'worker-1',1.79603522551600170136e+09,1.79603522551831245417e+09,NULL,NULL,'ValueError: n must be 0 or more, not -1','','Traceback (most recent call last):
  File "/tmp/dte-q0frwylr/code/dte/handlers/builtin.py", line 44, in fibonacci
    raise ValueError(f"n must be 0 or more, not {n}")
ValueError: n must be 0 or more, not -1
');
INSERT INTO "call" VALUES(13,'call','timed_out',1,1,0,0,0.0,'worker-1',1.79603522550469183924e+09,1.79603522556092381479e+09,NULL,NULL,'stopped after 0.05 s','',NULL);
INSERT INTO "call" VALUES(14,'a','succeeded',1,0,0,0,0.0,'worker-1',1.7960352255184826851e+09,1.79603522552235078807e+09,NULL,'[1,{"b":null}]',NULL,'',NULL);
INSERT INTO "call" VALUES(14,'b','succeeded',1,0,0,0,0.0,'worker-1',1.79603522552264142043e+09,1.79603522552410864833e+09,NULL,'[1,{"b":null},2.5]',NULL,'',NULL);
INSERT INTO "call" VALUES(14,'c','succeeded',1,0,0,0,0.0,'worker-1',1.79603522552891016004e+09,1.79603522553311896331e+09,NULL,'{"ref":"a"}',NULL,'',NULL);
INSERT INTO "call" VALUES(15,'anyway','succeeded',1,0,0,0,0.0,'worker-1',1.79603522553326582908e+09,1.79603522553798890118e+09,NULL,'1',NULL,'',NULL);
INSERT INTO "call" VALUES(15,'bad','failed',1,1,0,0,0.0,'worker-1',1.79603522552430582047e+09,1.79603522552620601653e+09,NULL,NULL,'ValueError: n must be 0 or more, not -1','','Traceback (most recent call last):
  File "/tmp/dte-q0frwylr/code/dte/handlers/builtin.py", line 44, in fibonacci
    raise ValueError(f"n must be 0 or more, not {n}")
ValueError: n must be 0 or more, not -1
');
INSERT INTO "call" VALUES(15,'skipped','skipped',0,0,0,0,0.0,'',NULL,1.79603522552620601653e+09,NULL,NULL,'skipped because ''bad'' failed: ValueError: n must be 0 or more, not -1','',NULL);
INSERT INTO "call" VALUES(18,'task','succeeded',1,0,0,0,0.0,'worker-1',1.79603522552653360362e+09,1.79603522552863430978e+09,NULL,'"x"',NULL,'',NULL);
INSERT INTO "call" VALUES(19,'task','succeeded',1,0,0,0,0.0,'worker-1',1.79603522550923848152e+09,1.79603522551299667362e+09,NULL,'{"status":"completed","primes":[2,3,5,7,11,13,17,19],"computation_time":0.000023,"method":"sieve"}',NULL,'',NULL);
INSERT INTO "call" VALUES(20,'task','succeeded',1,0,0,0,0.0,'worker-1',1.79603522551359868052e+09,1.79603522551555728915e+09,NULL,'3',NULL,'',NULL);
INSERT INTO "call" VALUES(22,'failed','failed',1,1,0,0,0.0,'a worker that claims',1.7960352259031066894e+09,1.79603522590740084644e+09,NULL,NULL,'no','',NULL);
INSERT INTO "call" VALUES(22,'paused',NULL,1,1,0,0,0.0,'a worker that claims',1.7960352259031066894e+09,NULL,4.02201918207717084869e+09,NULL,'not yet','',NULL);
INSERT INTO "call" VALUES(22,'running',NULL,1,0,0,3715730000000032,3000000000.0,'a worker that claims',1.7960352259031066894e+09,NULL,NULL,NULL,NULL,'',NULL);
INSERT INTO "call" VALUES(22,'succeeded','succeeded',1,0,0,0,0.0,'a worker that claims',1.7960352259031066894e+09,1.79603522590523934357e+09,NULL,'{"is": "good"}',NULL,'',NULL);
INSERT INTO "call" VALUES(23,'call',NULL,1,0,0,3715730000000034,3000000000.0,'a worker that claims',1.79603522591384387021e+09,NULL,NULL,NULL,NULL,'',NULL);
INSERT INTO "call" VALUES(24,'call','cancelled',0,0,0,0,0.0,'',NULL,1.79603522591930365561e+09,NULL,NULL,'cancelled','',NULL);
INSERT INTO "call" VALUES(32,'task',NULL,1,0,0,3715730000000036,30.0,'looks',1.79603522594498944287e+09,NULL,NULL,NULL,NULL,'rest',NULL);
CREATE TABLE ended (
    sequence INTEGER PRIMARY KEY,  -- in the order of the ends
    number INTEGER NOT NULL UNIQUE,
    submitted_at REAL NOT NULL,
    started_at REAL,
    ended_at REAL NOT NULL,
    operations INTEGER NOT NULL,
    operations_done INTEGER NOT NULL,
    answer TEXT,                   -- as Python writes it: integers may be of any size
    error TEXT,
    task TEXT NOT NULL,
    state TEXT,                    -- NULL for arithmetic that succeeded or failed
    answer_json TEXT               -- an answer of calls; a BLOB if it is not UTF-8
, trace TEXT, recorded_s REAL, owner TEXT);
INSERT INTO "ended" VALUES(1,2,1.79603522517709064481e+09,NULL,1.79603522517709064481e+09,0,0,'42',NULL,'42',NULL,NULL,NULL,3.6847484199097380042e-01,NULL);
INSERT INTO "ended" VALUES(2,1,1.79603522517374467851e+09,1.79603522517520022396e+09,1.79603522518154549601e+09,4,4,'-2.5',NULL,'1+(2*3)/4-5',NULL,NULL,NULL,3.7327192699012812227e-01,NULL);
INSERT INTO "ended" VALUES(3,3,1.79603522518099117284e+09,1.79603522518232536315e+09,1.79603522518338847165e+09,1,1,'0.30000000000000004',NULL,'0.1+0.2',NULL,NULL,NULL,3.75003774999640882015e-01,NULL);
INSERT INTO "ended" VALUES(4,4,1.7960352251844670773e+09,1796035225.18531,1.79603522518605136868e+09,2,2,'-0.0',NULL,'0*(0-1.5)',NULL,NULL,NULL,3.77435721995425410568e-01,NULL);
INSERT INTO "ended" VALUES(5,5,1.7960352251902835369e+09,1.79603522519134187695e+09,1.79603522519187235829e+09,1,1,'99999999999999999999999999999999999999980000000000000000000000000000000000000001',NULL,'(9999999999999999999999999999999999999999)*(9999999999999999999999999999999999999999)',NULL,NULL,NULL,3.83316483988892287015e-01,NULL);
INSERT INTO "ended" VALUES(6,6,1.79603522519388103485e+09,1.7960352251944506169e+09,1.79603522519490456585e+09,1,0,NULL,'division by zero: 1 / 0','1/0',NULL,NULL,NULL,3.86348660991643555462e-01,NULL);
INSERT INTO "ended" VALUES(7,7,1.79603522519664669039e+09,1.79603522519714736945e+09,1.79603522519748497006e+09,1,0,NULL,'overflow, the result is not a finite number: 1e+308 * 10','1e308*10',NULL,NULL,NULL,3.88919543998781591653e-01,NULL);
INSERT INTO "ended" VALUES(8,8,1.79603522519917535777e+09,1.79603522519989848137e+09,1.79603522520087838165e+09,2,2,'1.5',NULL,'2
×	3 ÷ 4',NULL,NULL,NULL,3.92270664000534452497e-01,NULL);
INSERT INTO "ended" VALUES(9,9,1.79603522520320796969e+09,1.79603522520414710041e+09,1.79603522520463013646e+09,1,1,'12',NULL,'3*<16382 blanks>…',NULL,NULL,NULL,3.96155545997316949069e-01,NULL);
INSERT INTO "ended" VALUES(10,17,1.79603522523842191703e+09,1.79603522524230241773e+09,1.79603522526104211805e+09,1,0,NULL,'division by zero: 1 / 0','1/0',NULL,NULL,NULL,4.52506542991613969206e-01,NULL);
INSERT INTO "ended" VALUES(11,16,1.79603522523842191703e+09,1.79603522524230241773e+09,1.79603522526104211805e+09,1,1,'6',NULL,'2*3',NULL,NULL,NULL,4.52506542991613969206e-01,NULL);
INSERT INTO "ended" VALUES(12,11,1.79603522520801734928e+09,1.79603522520935511585e+09,1.79603522550446629527e+09,1,1,NULL,NULL,'echo("\u00df\u0000\ud83d\ude42")','succeeded','"ß\u0000🙂"',NULL,6.95988321996992453932e-01,NULL);
INSERT INTO "ended" VALUES(13,10,1.79603522520549201968e+09,1.79603522520688414568e+09,1.79603522551012063021e+09,3,3,'832046',NULL,'fibonacci(30) + 2*3','succeeded',NULL,NULL,7.0154662498680409044e-01,NULL);
INSERT INTO "ended" VALUES(14,19,1.79603522524733090403e+09,1.7960352255102319717e+09,1.79603522551299667362e+09,1,1,NULL,NULL,'compute(limit=20)','succeeded','{"status":"completed","primes":[2,3,5,7,11,13,17,19],"computation_time":0.000023,"method":"sieve"}',NULL,7.04463100992143154144e-01,NULL);
INSERT INTO "ended" VALUES(15,20,1796035225.25777,1.79603522551359868052e+09,1.79603522551555728915e+09,1,1,NULL,NULL,'process_data(1,2)','succeeded','3',NULL,7.06998601992381736636e-01,NULL);
INSERT INTO "ended" VALUES(16,12,1.79603522521451115607e+09,1.79603522551600170136e+09,1.79603522551831245417e+09,1,0,NULL,'ValueError: n must be 0 or more, not -1','fibonacci(-1)','failed',NULL,'Traceback (most recent call last):
  File "/tmp/dte-q0frwylr/code/dte/handlers/builtin.py", line 44, in fibonacci
    raise ValueError(f"n must be 0 or more, not {n}")
ValueError: n must be 0 or more, not -1
',7.09783631988102570176e-01,NULL);
INSERT INTO "ended" VALUES(17,18,1.79603522524436306955e+09,1.79603522552653360362e+09,1.79603522552863430978e+09,1,1,NULL,NULL,'echo("x")','succeeded','"x"',NULL,7.20154938986524939537e-01,NULL);
INSERT INTO "ended" VALUES(18,14,1.7960352252279806137e+09,1.7960352255184826851e+09,1.79603522553311896331e+09,3,3,NULL,NULL,'3 calls: echo, process_data','succeeded','[1,{"b":null},2.5]',NULL,7.24570693986606784164e-01,NULL);
INSERT INTO "ended" VALUES(19,15,1.7960352252357492447e+09,1.79603522552430582047e+09,1.79603522553798890118e+09,3,1,NULL,'node ''bad'': ValueError: n must be 0 or more, not -1','3 calls: fibonacci, echo','failed',NULL,'Traceback (most recent call last):
  File "/tmp/dte-q0frwylr/code/dte/handlers/builtin.py", line 44, in fibonacci
    raise ValueError(f"n must be 0 or more, not {n}")
ValueError: n must be 0 or more, not -1
',0.729447766992962,NULL);
INSERT INTO "ended" VALUES(20,13,1.79603522521914339064e+09,1.7960352255079021454e+09,1.79603522556092381479e+09,1,0,NULL,'stopped after 0.05 s','sleep(60)','timed_out',NULL,NULL,7.5254047699854709208e-01,NULL);
INSERT INTO "ended" VALUES(21,21,1.79603522556795430179e+09,1.79603522556923818594e+09,1.7960352255700447559e+09,1,0,NULL,'division by zero: 1 / 0','1/0','failed',NULL,NULL,7.61795302998507395386e-01,NULL);
INSERT INTO "ended" VALUES(22,24,1.79603522591766786575e+09,NULL,1.79603522591930365561e+09,1,0,NULL,'cancelled','later()','cancelled',NULL,NULL,1.11070378498698119074e+00,NULL);
CREATE TABLE generation (  -- ties this file to its -wal, see dte/master/journal/generation.py
    incomplete INTEGER NOT NULL,
    marks BLOB NOT NULL  -- of constant length, or an interrupted write could mix two of them
);
INSERT INTO "generation" VALUES(0,X'6474653A6D61726BB566604DC3EF1819B566604DC3EF1819');
CREATE TABLE master (
    boot INTEGER NOT NULL,     -- the number of the last start with this file
    last_job INTEGER NOT NULL  -- the highest number of a job that has been deleted
, ran_s REAL NOT NULL DEFAULT 0);
INSERT INTO "master" VALUES(371573,0,3.65134366991696879267e-01);
CREATE TABLE notice (  -- webhooks of ended jobs that nobody has taken yet
    number INTEGER PRIMARY KEY,
    url TEXT NOT NULL,
    since REAL NOT NULL  -- by ran_s
);
INSERT INTO "notice" VALUES(12,'http://127.0.0.1:2/ended',7.09783631988102570176e-01);
INSERT INTO "notice" VALUES(14,'http://127.0.0.1:2/ended',7.24570693986606784164e-01);
CREATE TABLE plan (  -- of jobs that are more than formulas, waiting and ended
    number INTEGER PRIMARY KEY,
    text TEXT NOT NULL
);
INSERT INTO "plan" VALUES(11,'{"graph":{"call":{"handler":"echo","args":["\u00df\u0000\ud83d\ude42"],"delay":0.0}},"priority":3}');
INSERT INTO "plan" VALUES(12,'{"graph":{"call":{"handler":"fibonacci","args":[-1],"delay":0.0}},"notify":"http://127.0.0.1:2/ended"}');
INSERT INTO "plan" VALUES(13,'{"graph":{"call":{"handler":"sleep","args":[60],"timeout":0.05,"delay":0.0}}}');
INSERT INTO "plan" VALUES(14,'{"graph":{"a":{"handler":"echo","args":[[1, {"b": null}]]},"b":{"handler":"process_data","args":[{"ref": "a"}, [2.5]]},"c":{"handler":"echo","args":[{"literal": {"ref": "a"}}],"after":["b"]}},"answer":"b","notify":"http://127.0.0.1:2/ended"}');
INSERT INTO "plan" VALUES(15,'{"graph":{"bad":{"handler":"fibonacci","args":[-1]},"skipped":{"handler":"echo","args":[{"ref": "bad"}]},"anyway":{"handler":"echo","args":[1],"after":["bad"],"when":"done"}}}');
INSERT INTO "plan" VALUES(18,'{"graph":{"task":{"handler":"echo","args":["x"]}},"about":{"dialect":"rest","id":"mine","name":"n","args":"eA==","metadata":{},"dependencies":[]}}');
INSERT INTO "plan" VALUES(19,'{"graph":{"task":{"handler":"compute","args":{"limit":20},"retries":0,"lost_max":5}},"about":{"dialect":"queue"}}');
INSERT INTO "plan" VALUES(20,'{"graph":{"task":{"handler":"process_data","args":[1,2],"retries":2,"lost_max":3}},"about":{"dialect":"scheduler"}}');
INSERT INTO "plan" VALUES(21,'{"formula":"1/0","retry_of":17}');
INSERT INTO "plan" VALUES(22,'{"graph":{"succeeded":{"handler":"claimed","args":["good"]},"failed":{"handler":"claimed","args":["bad"]},"skipped":{"handler":"later","args":[{"ref": "failed"}]},"running":{"handler":"claimed","args":["held"],"timeout":60.0},"paused":{"handler":"claimed","args":["again"],"retries":3},"waiting":{"handler":"later","args":[[{"ref": "succeeded"}, {"ref": "running"}]]},"ready":{"handler":"later","args":[{"ref": "succeeded"}],"priority":2},"delayed":{"handler":"later","args":[],"not_before":"2121-01-01T00:00:00Z"}},"priority":1}');
INSERT INTO "plan" VALUES(23,'{"graph":{"call":{"handler":"claimed","args":["cancelled"],"delay":0.0}},"notify":"http://127.0.0.1:2/ended"}');
INSERT INTO "plan" VALUES(24,'{"graph":{"call":{"handler":"later","args":[],"delay":0.0}}}');
INSERT INTO "plan" VALUES(28,'{"formula":"later(1) + 2*3"}');
INSERT INTO "plan" VALUES(29,'{"graph":{"call":{"handler":"later","args":[1],"delay":0.0}}}');
INSERT INTO "plan" VALUES(30,'{"graph":{"call":{"handler":"later","args":[2],"delay":0.0}}}');
INSERT INTO "plan" VALUES(31,'{"graph":{"call":{"handler":"later","args":["after"],"delay":0.0}},"after":[22,23],"when":"done","notify":"http://127.0.0.1:2/ended"}');
INSERT INTO "plan" VALUES(32,'{"graph":{"task":{"handler":"later","args":[]}},"about":{"dialect":"rest","id":"waits","name":"n","args":null,"metadata":{},"dependencies":[]}}');
INSERT INTO "plan" VALUES(33,'{"graph":{"task":{"handler":"process_data","args":[4,5],"retries":2,"lost_max":3}},"about":{"dialect":"scheduler"}}');
CREATE TABLE replaced (  -- built-in handlers that workers have replaced by their own
    handler TEXT PRIMARY KEY,
    policy TEXT NOT NULL  -- of the built-in one, as JSON
);
CREATE TABLE retry (  -- of jobs that repeat the failed part of another
    number INTEGER PRIMARY KEY,
    retry_of INTEGER NOT NULL
);
INSERT INTO "retry" VALUES(21,17);
CREATE TABLE submission (
    sequence INTEGER PRIMARY KEY,
    key TEXT NOT NULL UNIQUE,
    digest TEXT NOT NULL,
    first INTEGER NOT NULL,  -- its jobs are numbered from this
    count INTEGER NOT NULL,
    submitted_at REAL NOT NULL
, recorded_s REAL, owner TEXT);
INSERT INTO "submission" VALUES(1,'ended','3e827b3f4bb5d5f97c0e23ef5afd6aa3',16,2,1.79603522523842191703e+09,4.29779995989520102739e-01,NULL);
INSERT INTO "submission" VALUES(2,'id
mine','ab04f0fe2a928131fee838796b8b0b41',18,1,1.79603522524436306955e+09,4.35727987991413101553e-01,NULL);
INSERT INTO "submission" VALUES(3,'states','74c004879930646703ae424b4d08154b',22,1,1.79603522589965486529e+09,1.0910239419899880886e+00,NULL);
INSERT INTO "submission" VALUES(4,'waiting','ff69d1ffbb862ea4f8195c9b1dbaaee7',25,1,1.79603522592157936093e+09,1.11294324600021354854e+00,NULL);
INSERT INTO "submission" VALUES(5,'id
waits','f3fce5b3111017f778d3a17421d409a7',32,1,1.79603522593510103221e+09,1.12647137999010737985e+00,NULL);
CREATE TABLE waiting (
    number INTEGER PRIMARY KEY,
    submitted_at REAL NOT NULL,  -- this and the other times: seconds since 1970
    operations INTEGER NOT NULL,
    task TEXT NOT NULL,
    formula TEXT,                -- the whole formula, where task is only its beginning
    cancelled_at REAL            -- when its cancelling began
, owner TEXT);
INSERT INTO "waiting" VALUES(22,1.79603522589965486529e+09,8,'8 calls: claimed, later',NULL,NULL,NULL);
INSERT INTO "waiting" VALUES(23,1.79603522591202759747e+09,1,'claimed("cancelled")',NULL,1.79603522591567897797e+09,NULL);
INSERT INTO "waiting" VALUES(25,1.79603522592157936093e+09,4,'(1+2)*(3+4)/5',NULL,NULL,NULL);
INSERT INTO "waiting" VALUES(26,1.79603522592537117002e+09,1,'6*7',NULL,NULL,NULL);
INSERT INTO "waiting" VALUES(27,1.79603522592537117002e+09,1,'1<16383 blanks>…','1<16400 blanks>+2',NULL,NULL);
INSERT INTO "waiting" VALUES(28,1.79603522592756581306e+09,3,'later(1) + 2*3',NULL,NULL,NULL);
INSERT INTO "waiting" VALUES(29,1.79603522592944955826e+09,1,'later(1)',NULL,NULL,NULL);
INSERT INTO "waiting" VALUES(30,1.79603522592944955826e+09,1,'later(2)',NULL,NULL,NULL);
INSERT INTO "waiting" VALUES(31,1.79603522593185138699e+09,1,'later("after")',NULL,NULL,NULL);
INSERT INTO "waiting" VALUES(32,1.79603522593510103221e+09,1,'later()',NULL,NULL,NULL);
INSERT INTO "waiting" VALUES(33,1.79603522593777918808e+09,1,'process_data(4,5)',NULL,NULL,NULL);
CREATE TABLE worker (  -- that do not announce themselves again
    address TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    slots INTEGER NOT NULL,
    batch_max INTEGER NOT NULL,
    announced_at REAL NOT NULL,  -- by ran_s
    said TEXT  -- the announcement as JSON; NULL before version 2
);
INSERT INTO "worker" VALUES('127.0.0.1:1','says it once',1,1,1.13136937499803025275e+00,'{"name":"says it once","address":"127.0.0.1:1","slots":1,"batch_max":1,"incarnation":"","draining":false,"handlers":{},"handler_slots":0,"arithmetic":true,"reach":"push","obeys":true,"lease_s":null,"dead_after_s":null,"failing":null,"dialect":"","tasks":[],"replaced":{},"mixes":false,"owner":""}');
INSERT INTO "worker" VALUES('127.0.0.1:3','with handlers',1,1,1.13412734499434,'{"name":"with handlers","address":"127.0.0.1:3","slots":1,"batch_max":1,"incarnation":"","draining":false,"handlers":{"x":{"timeout_s":null,"retries":2,"pure":false}},"handler_slots":3,"arithmetic":false,"reach":"push","obeys":true,"lease_s":null,"dead_after_s":null,"failing":null,"dialect":"","tasks":[],"replaced":{},"mixes":false,"owner":""}');
INSERT INTO "worker" VALUES('pull/rest:looks','looks',1,1,1.13627388898748904466e+00,'{"name":"looks","address":"","slots":1,"batch_max":1,"incarnation":"36a6a642774b7abd","draining":false,"handlers":{"looked_for":{"timeout_s":null,"retries":0,"pure":false}},"handler_slots":2,"arithmetic":false,"reach":"look","obeys":false,"lease_s":30.0,"dead_after_s":30.0,"failing":null,"dialect":"rest","tasks":null,"replaced":{},"mixes":false,"owner":""}');
CREATE TRIGGER ended_deleted AFTER DELETE ON ended BEGIN
    DELETE FROM plan WHERE number = OLD.number;
    DELETE FROM call WHERE job = OLD.number;
    DELETE FROM notice WHERE number = OLD.number;
END;
CREATE TRIGGER retry_deleted AFTER DELETE ON ended BEGIN
    DELETE FROM retry WHERE number = OLD.number;
END;
COMMIT;
