package devstack

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
)

// mavenArtifact packs the installed Postgres as the repository offers them: a jar
// with a tar.xz in it.
func mavenArtifact(t *testing.T) []byte {
	t.Helper()
	xz, err := exec.LookPath("xz")
	if err != nil {
		t.Skip("xz is not installed")
	}
	dirs, err := installedDirs(t.Context())
	require.NoError(t, err)
	if len(dirs) == 0 {
		t.Skip("no Postgres is installed to be packed")
	}
	var tarball bytes.Buffer
	w := tar.NewWriter(&tarball)
	files := []string{"bin/initdb", "bin/postgres"}
	libraries, err := filepath.Glob(filepath.Join(filepath.Dir(dirs[0]), "lib", "*.so"))
	require.NoError(t, err)
	for _, library := range libraries {
		files = append(files, "lib/"+filepath.Base(library))
	}
	for _, name := range files {
		content, err := os.ReadFile(filepath.Join(filepath.Dir(dirs[0]), name))
		require.NoError(t, err)
		require.NoError(t, w.WriteHeader(&tar.Header{Name: name, Mode: 0o755, Size: int64(len(content))}))
		_, err = w.Write(content)
		require.NoError(t, err)
	}
	require.NoError(t, w.Close())
	compress := exec.CommandContext(t.Context(), xz, "-0", "-c")
	compress.Stdin = &tarball
	txz, err := compress.Output()
	require.NoError(t, err)
	var jar bytes.Buffer
	z := zip.NewWriter(&jar)
	f, err := z.Create("postgres-linux-x86_64.txz")
	require.NoError(t, err)
	_, err = f.Write(txz)
	require.NoError(t, err)
	require.NoError(t, z.Close())
	return jar.Bytes()
}

func TestPostgresIsDownloadedOnce(t *testing.T) {
	t.Parallel()
	jar := mavenArtifact(t)
	sum := sha256.Sum256(jar)
	var downloads atomic.Int32
	repository := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, ".sha256") {
			_, _ = w.Write([]byte(hex.EncodeToString(sum[:]))) // the client's error says it
			return
		}
		downloads.Add(1)
		_, _ = w.Write(jar)
	}))
	defer repository.Close()
	logs, err := libraryLogs()
	require.NoError(t, err)

	dir, err := os.MkdirTemp("", "devstack-test-*")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	require.NoError(t, os.Chmod(dir, 0o755))
	var log bytes.Buffer
	options := PostgresOptions{Dir: dir, Repository: repository.URL, Log: &log}
	c, err := openCluster(t.Context(), options)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, c.close()) })
	for range 2 {
		b, err := c.download(t.Context(), options, &log)
		require.NoError(t, err)
		require.Equal(t, filepath.Join(dir, "binaries", "postgres-"+string(downloadVersion), "bin"), b.dir)
		require.NoError(t, c.account.mustEnter(t.Context(), b.dir))
		require.NoError(t, c.prepare(t.Context(), b, &log))
	}
	require.EqualValues(t, 1, downloads.Load())
	require.Equal(t, 1, strings.Count(log.String(), "none is installed, downloading"))
	after, err := libraryLogs()
	require.NoError(t, err)
	require.Equal(t, logs, after)
	left, err := filepath.Glob(filepath.Join(dir, "binaries", ".download-*"))
	require.NoError(t, err)
	require.Empty(t, left)

	b, err := c.download(t.Context(), options, &log)
	require.NoError(t, err)
	p, err := c.serve(t.Context(), b, freePort(t))
	require.NoError(t, err)
	require.NoError(t, p.Stop(t.Context()))
}

func freePort(t *testing.T) int {
	t.Helper()
	port, err := FreePort()
	require.NoError(t, err)
	return port
}

func TestPostgresCannotBeDownloaded(t *testing.T) {
	t.Parallel()
	repository := httptest.NewServer(http.NotFoundHandler())
	defer repository.Close()
	dir, err := os.MkdirTemp("", "devstack-test-*")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	require.NoError(t, os.Chmod(dir, 0o755))
	options := PostgresOptions{Dir: dir, Repository: repository.URL}
	c, err := openCluster(t.Context(), options)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, c.close()) })
	_, err = c.download(t.Context(), options, orDiscard(nil))
	require.ErrorContains(t, err, "no Postgres is installed and none could be downloaded (install one, or set DATABASE_URL")
	require.ErrorContains(t, err, "no version found matching "+string(downloadVersion))
}
