"""A small hub on loopback: what sharing a model asks of one."""
import base64
import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit


class Hub:
    """Repositories in memory.

    Attributes:
        repos (dict[str, dict[str, bytes]]): Files by name of the repository.
        private (set[str]): Names of those that were created so.
        tokens (list[str | None]): Header of each request that writes.
        url (str): Of the server.
    """

    def __init__(self) -> None:
        self.repos: dict[str, dict[str, bytes]] = {}
        self.private: set[str] = set()
        self.tokens: list[str | None] = []
        self.objects: dict[str, bytes] = {}
        hub = self

        class Handler(_Handler):
            pass

        Handler.hub = hub
        self.server = ThreadingHTTPServer(('127.0.0.1', 0), Handler)
        self.url = f'http://127.0.0.1:{self.server.server_port}'
        self.thread = threading.Thread(
            target=self.server.serve_forever, daemon=True)
        self.thread.start()

    def stop(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()

    def commit_of(self, repo: str) -> str:
        """A name for the present content."""
        digest = hashlib.sha1()
        for name, data in sorted(self.repos[repo].items()):
            digest.update(name.encode() + hashlib.sha1(data).digest())
        return digest.hexdigest()


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = 'HTTP/1.1'

    def log_message(self, *args) -> None:
        pass

    def _send(self, content, status=200, headers=(), body=True) -> None:
        data = content if isinstance(content,
                                     bytes) else json.dumps(content).encode()
        self.send_response(status)
        for key, value in headers:
            self.send_header(key, value)
        self.send_header('Content-Length', str(len(data)))
        self.end_headers()
        if body:
            self.wfile.write(data)

    def _missing(self, code: str) -> None:
        self._send({'error': code}, 404, [('X-Error-Code', code)])

    def _body(self) -> bytes:
        return self.rfile.read(int(self.headers.get('Content-Length', 0)))

    def do_GET(self, body=True) -> None:
        parts = unquote(urlsplit(self.path).path).strip('/').split('/')
        if parts[:2] == ['api', 'models']:
            repo = '/'.join(parts[2:4])
            if repo not in self.hub.repos:
                return self._missing('RepoNotFound')
            files = self.hub.repos[repo]
            if parts[4:5] == ['tree']:
                return self._send([{
                    'type': 'file',
                    'path': name,
                    'size': len(data),
                    'oid': hashlib.sha1(data).hexdigest()
                } for name, data in files.items()])
            return self._send({
                'id':
                repo,
                'sha':
                self.hub.commit_of(repo),
                'siblings': [{
                    'rfilename': name
                } for name in files]
            })
        repo, rest = '/'.join(parts[:2]), parts[2:]
        name = '/'.join(rest[2:])
        if rest[:1] != ['resolve'] or name not in self.hub.repos.get(repo, {}):
            return self._missing('EntryNotFound')
        data = self.hub.repos[repo][name]
        return self._send(
            data,
            headers=[('ETag', f'"{hashlib.sha1(data).hexdigest()}"'),
                     ('X-Repo-Commit', self.hub.commit_of(repo))],
            body=body)

    def do_HEAD(self) -> None:
        self.do_GET(body=False)

    def do_PUT(self) -> None:
        oid = self.path.rpartition('/')[2]
        self.hub.objects[oid] = self._body()
        self._send(b'')

    def do_POST(self) -> None:
        parts = unquote(urlsplit(self.path).path).strip('/').split('/')
        body = self._body()
        if parts[-1] != 'verify':
            self.hub.tokens.append(self.headers.get('Authorization'))
        if parts == ['api', 'repos', 'create']:
            wanted = json.loads(body)
            repo = '/'.join(
                filter(None, [wanted.get('organization'), wanted['name']]))
            if repo in self.hub.repos:
                return self._send(
                    {
                        'error': 'there',
                        'url': f'{self.hub.url}/{repo}'
                    }, 409)
            self.hub.repos[repo] = {}
            if wanted.get('private'):
                self.hub.private.add(repo)
            return self._send({'url': f'{self.hub.url}/{repo}', 'id': repo})
        if parts == ['api', 'validate-yaml']:
            return self._send({'errors': [], 'warnings': []})
        if 'preupload' in parts:
            # weights go beside, as on the real one
            return self._send({
                'files': [{
                    'path':
                    f['path'],
                    'uploadMode':
                    'lfs' if f['path'].startswith('model.') else 'regular',
                    'shouldIgnore':
                    False
                } for f in json.loads(body)['files']]
            })
        if parts[-1] == 'batch':
            return self._send({
                'transfer':
                'basic',
                'objects': [{
                    **o, 'actions': {
                        'upload': {
                            'href': f'{self.hub.url}/lfs/{o["oid"]}'
                        }
                    }
                } for o in json.loads(body)['objects']]
            })
        if 'commit' in parts:
            return self._commit('/'.join(parts[2:4]), body)
        return self._missing('Unknown')

    def _commit(self, repo: str, body: bytes) -> None:
        files = self.hub.repos[repo]
        for line in body.splitlines():
            entry = json.loads(line)
            value = entry['value']
            if entry['key'] == 'file':
                files[value['path']] = base64.b64decode(value['content'])
            elif entry['key'] == 'lfsFile':
                files[value['path']] = self.hub.objects[value['oid']]
            elif entry['key'] == 'deletedFile':
                del files[value['path']]
        commit = self.hub.commit_of(repo)
        self._send({
            'commitUrl': f'{self.hub.url}/{repo}/commit/{commit}',
            'commitOid': commit,
            'success': True
        })
